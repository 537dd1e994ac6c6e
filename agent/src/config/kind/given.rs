//! Text that may be left to the agent.

use super::{Field, Invalid, Kind};
use crate::config::model::Config;

/// A word that stands for nothing given, or text of some form.
pub(in crate::config) struct Given {
    /// What nothing is called: `auto`, `none`.
    pub nothing: &'static str,
    pub form: Form,
    pub field: Field<Option<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Form {
    AbsolutePath,
    /// The name of a Kubernetes node (RFC 1123 subdomain).
    NodeName,
    /// Where something is reached by HTTP.
    Url,
}

impl Kind for Given {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        let given = (text != self.nothing).then_some(text);
        if let Some(text) = given {
            self.form.check(text)?;
        }
        *(self.field)(config) = given.map(str::to_owned);
        Ok(text.to_owned())
    }

    fn allowed(&self) -> String {
        let what = match self.form {
            Form::AbsolutePath => "an absolute path",
            Form::NodeName => "the name of a node",
            Form::Url => "a URL that begins with http:// or https://",
        };
        format!("{}, or {what}", self.nothing)
    }

    fn placeholder(&self) -> &'static str {
        match self.form {
            Form::AbsolutePath => "PATH",
            Form::NodeName => "NAME",
            Form::Url => "URL",
        }
    }
}

impl Form {
    fn check(self, text: &str) -> Result<(), Invalid> {
        let is_right = match self {
            Self::AbsolutePath => text.starts_with('/') && !text.contains('\0') && text.len() < 4096,
            Self::NodeName => is_node_name(text),
            Self::Url => is_url(text),
        };
        is_right.then_some(()).ok_or_else(|| {
            Invalid::new(match self {
                Self::AbsolutePath => "is not an absolute path",
                Self::NodeName => "is not the name of a node: small letters, digits, dashes and dots",
                Self::Url => {
                    "is not the URL of a server: http:// or https://, a host, a port if it is another"
                }
            })
        })
    }
}

fn is_node_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (1..=253).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
}

/// A URL without a user: passwords don't belong where they are printed.
pub(in crate::config) fn is_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && uri.query().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(form: Form, text: &str) -> Result<Option<String>, Invalid> {
        let kind = Given { nothing: "auto", form, field: |config| &mut config.identity.node_name };
        let mut config = Config::default();
        let shown = kind.set(&mut config, text)?;
        assert_eq!(shown, text);
        Ok(config.identity.node_name)
    }

    #[test]
    fn nothing_or_text_of_the_form() {
        assert_eq!(set(Form::NodeName, "auto"), Ok(None));
        assert_eq!(
            set(Form::NodeName, "ip-10-0-0-1.example.com"),
            Ok(Some("ip-10-0-0-1.example.com".into()))
        );
        assert_eq!(set(Form::AbsolutePath, "/etc/kube/config"), Ok(Some("/etc/kube/config".into())));
        for text in ["", "Node1", "a b", "a,b", "-a", "a.", &"x".repeat(254), "a\u{1b}"] {
            assert!(set(Form::NodeName, text).is_err(), "{text:?}");
        }
        assert_eq!(set(Form::Url, "https://collector:4318/a"), Ok(Some("https://collector:4318/a".into())));
        for text in
            ["", "collector:4318", "http://", "ftp://a", "http://user:secret@a", "http://a?b", "http://a b"]
        {
            assert!(set(Form::Url, text).is_err(), "{text:?}");
        }
        for text in ["", "config", "~/config", "/a\0b"] {
            assert!(set(Form::AbsolutePath, text).is_err(), "{text:?}");
        }
    }
}
