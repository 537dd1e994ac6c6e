//! Colour, where there is a terminal that shows it.

use std::env;

/// When lines are coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    Always,
    Never,
}

/// What colours do: every escape sequence that is ever written comes from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    is_on: bool,
}

impl Style {
    pub(super) fn new(colour: Colour, is_terminal: bool) -> Self {
        let is_unwanted = || {
            let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
            is_set("NO_COLOR") || env::var_os("TERM").is_some_and(|term| term == "dumb")
        };
        let is_on = match colour {
            Colour::Auto => is_terminal && !is_unwanted(),
            Colour::Always => true,
            Colour::Never => false,
        };
        Self { is_on }
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(super) fn place(self, text: &str) -> String {
        self.paint("36", text)
    }

    pub(super) fn notice(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// A kind of event, by how it went.
    pub(super) fn kind(self, text: &str, is_bad: bool) -> String {
        self.paint(if is_bad { "1;31" } else { "32" }, text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.is_on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
