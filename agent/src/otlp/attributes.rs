//! Attributes as OTLP has them.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

/// A list of attributes. What is empty says nothing and is left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes(Vec<KeyValue>);

impl Attributes {
    #[must_use]
    pub(super) fn text(mut self, key: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.push(key, Value::StringValue(value));
        }
        self
    }

    #[must_use]
    pub(super) fn number(mut self, key: &str, value: impl TryInto<i64>) -> Self {
        self.push(key, Value::IntValue(value.try_into().unwrap_or(i64::MAX)));
        self
    }

    #[must_use]
    pub(super) fn seconds(mut self, key: &str, nanoseconds: u64) -> Self {
        self.push(key, Value::DoubleValue(nanoseconds as f64 / 1e9));
        self
    }

    #[must_use]
    pub(super) fn flag(mut self, key: &str, value: bool) -> Self {
        self.push(key, Value::BoolValue(value));
        self
    }

    /// What is there, by the function.
    #[must_use]
    pub(super) fn some<T>(self, value: Option<T>, add: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => add(self, value),
            None => self,
        }
    }

    /// Those of `more` whose keys are not there yet.
    #[must_use]
    pub(super) fn and(mut self, more: &[(String, String)]) -> Self {
        for (key, value) in more {
            if !self.0.iter().any(|there| there.key == *key) {
                self.push(key, Value::StringValue(value.clone()));
            }
        }
        self
    }

    pub(super) fn into_vec(self) -> Vec<KeyValue> {
        self.0
    }

    fn push(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
}

/// Text as a value by itself.
pub(super) fn text(value: String) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(value)) }
}
