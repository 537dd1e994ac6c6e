//! What `/v1/events` can be asked for, as a table: the query, the page's words and the documents follow from it.

use serde_json::{Value, json};

use super::schema::ID;
use crate::{
    filter::{Field, SYSCALL},
    identity::Labels,
};

/// Values of one key.
pub(super) const MAX_VALUES: usize = 32;
/// Fields that are a parameter of their own, besides the labels.
pub(super) const PLAIN: [&str; 3] = ["kind", SYSCALL, "pid"];

/// A parameter of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: &'static str,
    pub doc: &'static str,
    pub form: Form,
}

/// What its value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In the filter language.
    Filter,
    Switch,
    Time,
    EventId,
    Count,
    OneOf(&'static [&'static str]),
    /// Of a field of events: several of them, any of which will do.
    Names,
    /// The same, numbers.
    Numbers,
}

/// Parameters that are no field.
pub(super) const KEYS: [Parameter; 6] = [
    Parameter { name: "filter", doc: "which events, in the filter language", form: Form::Filter },
    Parameter {
        name: "paths",
        doc: "true: with the paths in the arguments of the system calls that the filter names",
        form: Form::Switch,
    },
    Parameter {
        name: "since",
        doc: "begin at a time, or a duration ago, as far as it is kept",
        form: Form::Time,
    },
    Parameter {
        name: "after",
        doc: "begin behind an event, by its id; the header Last-Event-ID does the same and counts more",
        form: Form::EventId,
    },
    Parameter { name: "limit", doc: "end after so many events", form: Form::Count },
    Parameter {
        name: "format",
        doc: "else server-sent events if Accept names text/event-stream",
        form: Form::OneOf(&["ndjson", "sse"]),
    },
];

/// Every parameter, those that are fields last.
pub fn parameters() -> impl Iterator<Item = Parameter> {
    KEYS.into_iter().chain(fields())
}

/// Those that are fields.
pub fn fields() -> impl Iterator<Item = Parameter> {
    PLAIN.into_iter().chain(Labels::NAMES).map(|name| Parameter {
        name,
        doc: Field::by_name(name).map_or("", |field| field.doc),
        form: if name == "pid" { Form::Numbers } else { Form::Names },
    })
}

impl Parameter {
    /// What its value is, as JSON Schema.
    pub fn schema(&self) -> Value {
        let many = |item: Value| json!({"type": "array", "items": item, "maxItems": MAX_VALUES});
        match self.form {
            Form::Filter | Form::Time => json!({"type": "string"}),
            Form::Switch => json!({"type": "boolean"}),
            Form::EventId => json!({"type": "string", "pattern": ID}),
            Form::Count => json!({"type": "integer", "minimum": 1}),
            Form::OneOf(words) => json!({"type": "string", "enum": words}),
            Form::Names => many(json!({"type": "string"})),
            Form::Numbers => many(json!({"type": "integer", "minimum": 0})),
        }
    }

    /// A value that is accepted.
    pub fn example(&self) -> &'static str {
        match self.form {
            Form::Filter => "kind=tcp.connect (errno or duration>100ms)",
            Form::Switch => "true",
            Form::Time => "30s",
            Form::EventId => "18f-7",
            Form::Count => "10",
            Form::OneOf(words) => words[0],
            Form::Names if self.name == "kind" => "tcp.connect,oom",
            Form::Names if self.name == SYSCALL => "openat,unlink",
            Form::Names => "a,b",
            Form::Numbers => "1,2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parameters;
    use crate::live::Query;

    #[test]
    fn each_is_known_and_explained() {
        let names: std::collections::HashSet<_> = parameters().map(|parameter| parameter.name).collect();
        assert_eq!(names.len(), parameters().count());
        for parameter in parameters() {
            let query = Query::parse([(parameter.name, parameter.example())], jiff::Timestamp::UNIX_EPOCH);
            assert!(query.is_ok_and(|query| query != Query::default()), "{parameter:?}");
            assert!(!parameter.doc.is_empty(), "{parameter:?}");
        }
    }
}
