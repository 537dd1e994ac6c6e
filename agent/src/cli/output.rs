//! What `tail` takes for `-o`.

use std::ffi::OsStr;

use clap::{
    Arg, Command, Error,
    builder::{PossibleValue, TypedValueParser},
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    harmless::Harmless,
    tail::{Output, Template},
};

/// What stands before a template.
const JSONPATH: &str = "jsonpath=";

/// Reads a name, or a template behind its prefix.
#[derive(Clone)]
pub(super) struct OutputParser;

impl TypedValueParser for OutputParser {
    type Value = Output;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Output, Error> {
        let text = value.to_string_lossy();
        match &*text {
            "text" => return Ok(Output::Text),
            "wide" => return Ok(Output::Wide),
            "json" => return Ok(Output::Json),
            _ => {}
        }
        // kubectl says a template is missing where only its name is given.
        let template = if text == "jsonpath" { Some("") } else { text.strip_prefix(JSONPATH) };
        if let Some(template) = template {
            return Template::parse(template).map(Output::Jsonpath).map_err(|error| {
                let pointer = error.pointer(template);
                let said = format!("{}\n\n{pointer}\n", Harmless(&error.to_string()));
                Error::raw(ErrorKind::ValueValidation, said).with_cmd(command)
            });
        }
        let mut error = Error::new(ErrorKind::InvalidValue).with_cmd(command);
        let name = arg.map(ToString::to_string).unwrap_or_default();
        error.insert(ContextKind::InvalidArg, ContextValue::String(name));
        error.insert(ContextKind::InvalidValue, ContextValue::String(Harmless(&text).to_string()));
        let names = self.possible_values().into_iter().flatten().map(|value| value.get_name().to_owned());
        error.insert(ContextKind::ValidValue, ContextValue::Strings(names.collect()));
        Err(error)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values = [
            ("text", "columns, with what is long cut short"),
            ("wide", "nothing cut short, nothing left out"),
            ("json", "a JSON object on each line, as the agent sends it"),
            (JSONPATH, "what a template makes of each event, as in jsonpath='{.kind} {.pod}'"),
        ];
        Some(Box::new(values.into_iter().map(|(name, help)| PossibleValue::new(name).help(help))))
    }
}
