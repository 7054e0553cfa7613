//! What our own objects in a cluster are called. Who installs them and who looks for them agree here.

/// The label that says which part of Faultline an object belongs to.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/name";
/// Its value for agents.
pub const AGENT: &str = "faultline-agent";
/// Its value for the controller.
pub const CONTROLLER: &str = "faultline-controller";
/// The namespace that it is installed into where nothing is said.
pub const NAMESPACE_DEFAULT: &str = "faultline";
/// The Secret with the controller's certificate, its key and the authority's certificate.
pub const CONTROLLER_SECRET: &str = "faultline-controller";
/// The Secret with the agents' certificate, its key and the authority's certificate.
pub const AGENT_SECRET: &str = "faultline-agent";
/// The Secret with the certificate authority's key.
pub const CA_SECRET: &str = "faultline-ca";
/// Files of those Secrets: the authority's certificate, as Kubernetes' own TLS secrets name it.
pub const CA_FILE: &str = "ca.crt";
/// The certificate.
pub const CERT_FILE: &str = "tls.crt";
/// Its private key.
pub const KEY_FILE: &str = "tls.key";
/// The name that the certificate of all agents of a cluster is valid for. They are pods of one `DaemonSet`, which
/// gives the same Secret to all of them, also on nodes that come later.
pub const AGENTS_SERVER_NAME: &str = "agents.faultline.internal";
/// The name of the port that an agent serves on, in its pod.
pub const AGENT_PORT_NAME: &str = "grpc";
/// That port where a pod does not say.
pub const AGENT_PORT: u16 = 7700;
/// The annotation on that Secret by which whoever administers the installation asks every run to hit only who is
/// enabled. Whoever can run anything can read it.
pub const OPT_IN_ANNOTATION: &str = "faultline.dev/require-opt-in";
/// The port of an agent's metrics and health.
pub const AGENT_METRICS_PORT: u16 = 7701;
/// The port of the controller's metrics.
pub const CONTROLLER_METRICS_PORT: u16 = 7702;
/// What the certificate authority of an installation is called in its certificate.
pub const CA_NAME: &str = "Faultline";
/// The label of a namespace that `install` made, and that `uninstall` may delete.
pub const MADE_LABEL: &str = "faultline.dev/made-by";
/// Its value.
pub const MADE_BY_INSTALL: &str = "install";
