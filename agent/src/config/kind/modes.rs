//! Modes by namespace.

use super::{Field, Invalid, Kind, names::is_label};
use crate::config::{
    choices::SYSCALLS_MODES,
    model::{Config, ModeByNamespace},
};

/// `NAMESPACE=MODE` with commas between, or `none`.
pub(in crate::config) struct ModesByNamespace {
    pub field: Field<Vec<ModeByNamespace>>,
}

const NOTHING: &str = "none";

impl Kind for ModesByNamespace {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        let mut modes: Vec<(String, &str, ModeByNamespace)> = Vec::new();
        if text != NOTHING {
            for pair in text.split(',').map(str::trim) {
                let (namespace, mode) = pair
                    .split_once('=')
                    .ok_or_else(|| Invalid::new("has a namespace without =MODE in it"))?;
                if !is_label(namespace) {
                    return Err(Invalid::new("has something in it that is no name of a namespace"));
                }
                let (name, mode) =
                    SYSCALLS_MODES.iter().find(|(name, _)| *name == mode).ok_or_else(|| {
                        Invalid(format!("has a mode for {namespace} that is none of the known ones"))
                    })?;
                if modes.iter().any(|(other, ..)| other == namespace) {
                    return Err(Invalid(format!("names {namespace} twice")));
                }
                modes.push((namespace.to_owned(), name, (namespace.to_owned(), *mode)));
            }
        }
        modes.sort();
        let pairs: Vec<_> = modes.iter().map(|(namespace, name, _)| format!("{namespace}={name}")).collect();
        *(self.field)(config) = modes.into_iter().map(|(.., mode)| mode).collect();
        Ok(if pairs.is_empty() { NOTHING.to_owned() } else { pairs.join(",") })
    }

    fn allowed(&self) -> String {
        let modes: Vec<_> = SYSCALLS_MODES.iter().map(|(name, _)| *name).collect();
        format!(
            "{NOTHING}, or NAMESPACE=MODE with commas between, such as shop=full,batch=counts; modes are {}",
            modes.join(", ")
        )
    }

    fn placeholder(&self) -> &'static str {
        "NAMESPACE=MODE,..."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Result<String, String> {
        let kind = ModesByNamespace { field: |config| &mut config.sensors.syscalls_modes };
        kind.set(&mut Config::default(), text).map_err(|Invalid(why)| why)
    }

    #[test]
    fn namespaces_come_in_order() {
        assert_eq!(set("none").unwrap(), "none");
        assert_eq!(set("shop=full, batch=counts").unwrap(), "batch=counts,shop=full");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "without =MODE"),
            ("shop", "without =MODE"),
            ("shop=", "a mode for shop"),
            ("shop=all", "a mode for shop"),
            ("Shop=full", "no name of a namespace"),
            ("a=full,a=counts", "names a twice"),
        ] {
            let why = set(text).unwrap_err();
            assert!(why.contains(part), "{text:?}: {why}");
        }
    }
}
