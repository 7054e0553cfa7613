//! What is installed, as it was asked for. Pure.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::{super::names::NAMESPACE_DEFAULT, agent::CAPABILITIES};

/// Where undo records are kept on a node, if nothing else is said.
pub const STATE_DIR_DEFAULT: &str = "/var/lib/faultline";

/// Where images are: `PREFIX[:TAG]`, of which `PREFIX/agent:TAG` and `PREFIX/controller:TAG` are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    prefix: String,
    tag: String,
}

impl Default for Images {
    /// Without a registry, so that images are found that were built here and loaded into a cluster such as kind.
    fn default() -> Self {
        Self { prefix: "faultline".into(), tag: env!("CARGO_PKG_VERSION").into() }
    }
}

impl Images {
    /// The agent's.
    pub fn agent(&self) -> String {
        format!("{}/agent:{}", self.prefix, self.tag)
    }

    /// The controller's.
    pub fn controller(&self) -> String {
        format!("{}/controller:{}", self.prefix, self.tag)
    }
}

impl FromStr for Images {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // `localhost:5000/faultline` has a port and no tag.
        let name = text.rfind('/').map_or(0, |slash| slash + 1);
        let (prefix, tag) = match text[name..].rfind(':') {
            Some(colon) => (&text[..name + colon], &text[name + colon + 1..]),
            None => (text, env!("CARGO_PKG_VERSION")),
        };
        let of_prefix =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "./:_-".contains(c);
        let of_tag = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_prefix = !prefix.is_empty()
            && prefix.chars().all(of_prefix)
            && !prefix.starts_with(['/', ':'])
            && !prefix.ends_with(['/', ':'])
            && !prefix.contains("//");
        if is_prefix && !tag.is_empty() && tag.chars().all(of_tag) {
            return Ok(Self { prefix: prefix.into(), tag: tag.into() });
        }
        Err("expected the beginning of image names, such as `registry.example.com/faultline` or \
             `registry.example.com/faultline:1.2.3`"
            .into())
    }
}

impl fmt::Display for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.prefix, self.tag)
    }
}

/// A label and its value: `KEY=VALUE`, as `kubectl` takes it.
pub fn label(text: &str) -> Result<(String, String), String> {
    let is_word = |text: &str, others: &str| {
        let ends = |c: char| c.is_ascii_alphanumeric();
        text.len() <= 63 + 1 + 253
            && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
            && text.starts_with(ends)
            && text.ends_with(ends)
    };
    match text.split_once('=') {
        Some((key, value))
            if is_word(key, "._-/") && (value.is_empty() || is_word(value, "._-")) =>
        {
            Ok((key.into(), value.into()))
        }
        _ => Err("expected KEY=VALUE, such as `kubernetes.io/os=linux`".into()),
    }
}

/// One of the capabilities that agents get.
pub fn capability(text: &str) -> Result<&'static str, String> {
    let name = text.strip_prefix("CAP_").unwrap_or(text);
    let known = CAPABILITIES.into_iter().find(|known| *known == name);
    known.ok_or_else(|| format!("expected one of {}", CAPABILITIES.join(", ")))
}

/// A directory on a node.
pub fn directory(text: &str) -> Result<String, String> {
    let is_plain = text.starts_with('/')
        && text.len() > 1
        && !text.ends_with('/')
        && text.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."))
        && !text.contains(':')
        && !text.chars().any(char::is_control);
    if is_plain {
        Ok(text.into())
    } else {
        Err("expected an absolute path, such as `/var/lib/faultline`".into())
    }
}

/// The name of a namespace.
pub fn namespace(text: &str) -> Result<String, String> {
    let of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_name = (1..=63).contains(&text.len())
        && text.chars().all(of_name)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if is_name {
        Ok(text.into())
    } else {
        Err("expected a namespace's name, such as `faultline`".into())
    }
}

/// What is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The namespace.
    pub namespace: String,
    /// The images.
    pub images: Images,
    /// Labels that a node must have for an agent.
    pub node_selector: BTreeMap<String, String>,
    /// Whether agents are privileged, instead of having the capabilities that they need.
    pub privileged: bool,
    /// Capabilities that agents do not get: the runtime of some nodes has them not itself, and starts nothing that wants
    /// them.
    pub without_capabilities: Vec<&'static str>,
    /// Where undo records are kept on a node: it must outlive a pod, and be the node's alone.
    pub state_dir: String,
    /// Namespaces whose pods agents never touch, beside `kube-system` and their own.
    pub protected_namespaces: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: NAMESPACE_DEFAULT.into(),
            images: Images::default(),
            node_selector: BTreeMap::new(),
            privileged: false,
            without_capabilities: Vec::new(),
            state_dir: STATE_DIR_DEFAULT.into(),
            protected_namespaces: Vec::new(),
        }
    }
}

impl Settings {
    /// The namespaces whose pods agents never touch.
    pub(super) fn protected(&self) -> Vec<&str> {
        let own = ["kube-system", &self.namespace];
        let mut all: Vec<&str> = own.into_iter().collect();
        for namespace in &self.protected_namespaces {
            if !all.contains(&namespace.as_str()) {
                all.push(namespace);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_below_a_prefix() {
        let version = env!("CARGO_PKG_VERSION");
        for (text, agent) in [
            ("faultline", format!("faultline/agent:{version}")),
            ("localhost:5000/faultline", format!("localhost:5000/faultline/agent:{version}")),
            ("localhost:5000/a/b:v1.2", "localhost:5000/a/b/agent:v1.2".into()),
            ("k8slab.local/faultline:dev", "k8slab.local/faultline/agent:dev".into()),
        ] {
            assert_eq!(text.parse::<Images>().expect(text).agent(), agent);
        }
        for text in ["", "/", "a/", "a//b", "Faultline", "a b", "a:", ":dev", "a@sha256:00"] {
            assert!(text.parse::<Images>().is_err(), "{text}");
        }
    }

    #[test]
    fn labels_have_a_key_and_a_value() {
        assert_eq!(label("zone=a"), Ok(("zone".into(), "a".into())));
        assert_eq!(
            label("node-role.kubernetes.io/worker="),
            Ok(("node-role.kubernetes.io/worker".into(), String::new()))
        );
        for text in ["zone", "=a", "zone=a=b", "zone==a", "zo ne=a", "-a=b"] {
            assert!(label(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_own_namespace_is_protected_once() {
        let settings = Settings {
            protected_namespaces: vec!["payments".into(), "kube-system".into()],
            ..Settings::default()
        };
        assert_eq!(settings.protected(), ["kube-system", "faultline", "payments"]);
    }
}
