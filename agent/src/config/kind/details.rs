//! What series are told apart by.

use super::{Field, Invalid, Kind};
use crate::{config::model::Config, metrics::Detail};

/// Names of details with commas between, or all or none of them.
pub(in crate::config) struct Details {
    pub field: Field<Detail>,
}

impl Kind for Details {
    fn set(&self, config: &mut Config, text: &str) -> Result<String, Invalid> {
        let detail = match text {
            "all" => Detail::ALL,
            "none" => Detail::NONE,
            _ => {
                let mut detail = Detail::NONE;
                for name in text.split(',').map(str::trim) {
                    let Some(part) = detail.part(name) else {
                        return Err(Invalid::new(format!(
                            "has something in it that is none of {}",
                            Detail::NAMES.join(", ")
                        )));
                    };
                    *part = true;
                }
                detail
            }
        };
        *(self.field)(config) = detail;
        Ok(detail.to_string())
    }

    fn allowed(&self) -> String {
        format!("all, none, or some of {} with commas between", Detail::NAMES.join(", "))
    }

    fn placeholder(&self) -> &'static str {
        "DETAILS"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_come_in_their_order() {
        let kind = Details { field: |config| &mut config.metrics.detail };
        let mut config = Config::default();
        for (text, shown) in [
            ("all", "all"),
            ("none", "none"),
            ("errno, container", "container,errno"),
            ("errno,peer,syscall,container", "all"),
            ("peer,peer", "peer"),
        ] {
            assert_eq!(kind.set(&mut config, text).unwrap(), shown);
        }
        assert_eq!(config.metrics.detail, Detail { peer: true, ..Detail::NONE });
        for text in ["", ",", "class", "errno;peer", "ALL", "all,errno"] {
            assert!(kind.set(&mut config, text).is_err(), "{text:?}");
        }
        assert_eq!(config.metrics.detail, Detail { peer: true, ..Detail::NONE });
    }
}
