//! JSON Schema, as far as the agent's own goes. What isn't known here is a failure, so that nothing goes unchecked.

use regex::Regex;
use serde_json::Value;

/// Why `value` doesn't fit `schema`, if it doesn't.
pub fn fits(schema: &Value, value: &Value) -> Result<(), String> {
    fits_within(schema, schema, value)
}

/// The same, where a schema may refer to others in `document`.
pub fn fits_within(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let fits = |schema: &Value, value: &Value| fits_within(document, schema, value);
    let keywords = schema.as_object().ok_or("a schema is an object")?;
    for (keyword, wanted) in keywords {
        let fits = match keyword.as_str() {
            "$schema" | "title" | "description" => true,
            "$ref" => {
                let pointer = wanted.as_str().and_then(|name| name.strip_prefix('#'));
                let other = pointer.and_then(|pointer| document.pointer(pointer));
                fits(other.ok_or_else(|| format!("{wanted} is nowhere"))?, value)?;
                true
            }
            "type" => match wanted {
                Value::Array(kinds) => kinds.iter().any(|kind| is_of(kind, value)),
                kind => is_of(kind, value),
            },
            "enum" => list(wanted)?.contains(value),
            "items" => {
                for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                    fits(wanted, item).map_err(|error| format!("{number}: {error}"))?;
                }
                true
            }
            "const" => wanted == value,
            "minimum" => value.as_f64() >= wanted.as_f64(),
            "pattern" => {
                let pattern =
                    Regex::new(wanted.as_str().unwrap_or_default()).map_err(|error| error.to_string())?;
                value.as_str().is_some_and(|text| pattern.is_match(text))
            }
            "format" => has_form(wanted, value.as_str().unwrap_or_default())?,
            "anyOf" => list(wanted)?.iter().any(|one| fits(one, value).is_ok()),
            "oneOf" => list(wanted)?.iter().filter(|one| fits(one, value).is_ok()).count() == 1,
            "required" => {
                list(wanted)?.iter().all(|name| value.get(name.as_str().unwrap_or_default()).is_some())
            }
            "additionalProperties" => {
                let known = &schema["properties"];
                if wanted.is_object() {
                    let fields = value.as_object().ok_or("only objects have properties")?;
                    let others = fields.iter().filter(|(name, _)| known.get(name).is_none());
                    for (name, value) in others {
                        fits(wanted, value).map_err(|error| format!("{name}: {error}"))?;
                    }
                    continue;
                }
                *wanted == false
                    && value
                        .as_object()
                        .is_some_and(|fields| fields.keys().all(|name| known.get(name).is_some()))
            }
            "properties" => {
                for (name, of) in wanted.as_object().ok_or("properties are an object")? {
                    if let Some(value) = value.get(name) {
                        fits(of, value).map_err(|error| format!("{name}: {error}"))?;
                    }
                }
                true
            }
            _ => return Err(format!("`{keyword}` is not known here")),
        };
        if !fits {
            return Err(format!("{value} doesn't fit {keyword}: {wanted}"));
        }
    }
    Ok(())
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("null") => value.is_null(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        _ => false,
    }
}

fn has_form(form: &Value, text: &str) -> Result<bool, String> {
    match form.as_str() {
        Some("ipv4") => Ok(text.parse::<std::net::Ipv4Addr>().is_ok()),
        Some("ipv6") => Ok(text.parse::<std::net::Ipv6Addr>().is_ok()),
        Some("date-time") => {
            let form = Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
                .map_err(|error| error.to_string())?;
            Ok(form.is_match(text))
        }
        _ => Err(format!("the format {form} is not known here")),
    }
}

fn list(value: &Value) -> Result<&Vec<Value>, String> {
    value.as_array().ok_or_else(|| format!("{value} is no list"))
}
