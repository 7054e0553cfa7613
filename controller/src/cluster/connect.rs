//! From what a person chose to a client of an API server: a kubeconfig and one of its contexts, or the pod that
//! this runs in.

use std::{env, path::PathBuf, time::Duration};

use faultline_proto::yaml::nearest;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
use kube::{
    Client, Config,
    client::ConfigExt as _,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tower::{BoxError, ServiceBuilder};

use super::error::{Asked, ClusterError};

/// How long the API server may take to answer what is no watch.
pub(super) const API_ANSWER_MAX: Duration = Duration::from_secs(15);

/// Which cluster, and which installation of Faultline in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterChoice {
    /// The kubeconfig; that of `KUBECONFIG` or `~/.kube/config` if `None`, or else the pod that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The context; the current one if `None`.
    pub context: Option<String>,
    /// The namespace that Faultline is installed in; wherever it is found if `None`.
    pub installation: Option<String>,
}

/// A way to an API server.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    /// The same for what is carried to and fro.
    tunnel: Client,
    config: Config,
    server: String,
    /// The context of a kubeconfig; `None` in a pod.
    context: Option<String>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Connection {
    /// Makes a client. Nothing is sent yet.
    ///
    /// # Errors
    /// When no cluster is configured, or what is configured cannot be used.
    pub async fn open(choice: &ClusterChoice) -> Result<Self, ClusterError> {
        let path = kubeconfig_path(choice.kubeconfig.as_deref());
        let is_asked = choice.kubeconfig.is_some() || choice.context.is_some();
        let (config, context) = if is_asked || path.exists() || env::var_os("KUBECONFIG").is_some()
        {
            let (config, context) = from_kubeconfig(choice, path).await?;
            (config, Some(context))
        } else {
            let config = Config::incluster()
                .map_err(|source| ClusterError::NoCluster { looked: path, source })?;
            (config, None)
        };
        Self::of(config, context)
    }

    fn of(config: Config, context: Option<String>) -> Result<Self, ClusterError> {
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config.clone()).map_err(|source| ClusterError::Client {
            server: server.clone(),
            source: Box::new(source),
        })?;
        let tunnel = tunnel(&config).transpose().map_err(|source| ClusterError::Client {
            server: server.clone(),
            source: Box::new(source),
        })?;
        let tunnel = tunnel.unwrap_or_else(|| client.clone());
        Ok(Self { client, tunnel, config, server, context })
    }

    /// The client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The client for port-forwards and commands: what is small is sent at once.
    pub(super) fn tunnel(&self) -> Client {
        self.tunnel.clone()
    }

    /// A client that says at once what the server said, and does not ask again by itself: an eviction that a
    /// budget forbids is answered with 429, and would be asked for again and again.
    ///
    /// # Errors
    /// When none can be made.
    pub fn client_without_retry(&self) -> Result<Client, ClusterError> {
        let mut config = self.config.clone();
        config.default_retry = false;
        Ok(Self::of(config, None)?.client)
    }

    /// The API server's address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The context of the kubeconfig; `None` where this runs in a pod of the cluster.
    pub fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// Whether this runs in a pod of the cluster, so that its nodes can be reached directly.
    pub fn is_inside(&self) -> bool {
        self.context.is_none()
    }

    /// The minor version of the API server: 33 for Kubernetes 1.33.
    ///
    /// # Errors
    /// When it cannot be reached. One that cannot be read counts as 0.
    pub async fn minor_version(&self) -> Result<u32, ClusterError> {
        let asked = Asked::new("get", "/version");
        let version = self.answer(asked, self.client.apiserver_version()).await?;
        // Some providers write `33+`.
        let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse().unwrap_or(0))
    }

    /// Waits for an answer, but not for ever.
    ///
    /// # Errors
    /// When there is none in time, or it is no.
    pub async fn answer<T>(
        &self,
        asked: Asked,
        answer: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ClusterError> {
        match tokio::time::timeout(API_ANSWER_MAX, answer).await {
            Ok(answer) => answer.map_err(|error| ClusterError::of(&self.server, asked, error)),
            Err(_late) => Err(ClusterError::NoAnswer {
                server: self.server.clone(),
                asked: Box::new(asked),
                within: API_ANSWER_MAX,
            }),
        }
    }
}

/// A client whose connections do not wait for more to send (`tcp(7)`, `TCP_NODELAY`): kube's own wait for 40 ms at
/// every question to an agent, by which its clock would be known to ± 20 ms at best. `None` where a proxy is in between,
/// for which kube's own is made.
fn tunnel(config: &Config) -> Option<Result<Client, kube::Error>> {
    config.proxy_url.is_none().then(|| {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(config.connect_timeout);
        let connector = config.rustls_https_connector_with_connector(connector)?;
        let http =
            hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer()?)
            .layer(config.extra_headers_layer()?)
            .map_err(BoxError::from)
            .service(http);
        Ok(Client::new(service, config.default_namespace.clone()))
    })
}

/// Where the kubeconfig is, for a message and to see whether there is one. Of a list in `KUBECONFIG`, the first.
fn kubeconfig_path(asked: Option<&std::path::Path>) -> PathBuf {
    if let Some(path) = asked {
        return path.to_owned();
    }
    let listed = env::var_os("KUBECONFIG");
    let listed =
        listed.and_then(|list| env::split_paths(&list).find(|p| !p.as_os_str().is_empty()));
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default());
    listed.unwrap_or_else(|| home().join(".kube/config"))
}

async fn from_kubeconfig(
    choice: &ClusterChoice,
    path: PathBuf,
) -> Result<(Config, String), ClusterError> {
    let unusable = |source| ClusterError::Kubeconfig { path: path.clone(), source };
    let kubeconfig = match &choice.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let kubeconfig = kubeconfig.map_err(&unusable)?;
    let known: Vec<String> =
        kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    if let Some(name) = &choice.context
        && !known.contains(name)
    {
        let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        return Err(ClusterError::UnknownContext { path, name: name.clone(), known, nearest });
    }
    let context = choice.context.clone().or_else(|| kubeconfig.current_context.clone());
    let context = context.ok_or_else(|| unusable(KubeconfigError::CurrentContextNotSet))?;
    let options =
        KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)?;
    Ok((config, context))
}
