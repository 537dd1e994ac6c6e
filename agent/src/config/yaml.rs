//! From YAML text to (option, value, line), with everything that is wrong on the way.
//!
//! It works on the parser's events, not on a value or a serde type, because events know the line of
//! everything, show a key that is given twice, and let all mistakes be found in one pass.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

use super::error::{Problem, SHOWN};
use super::options::OPTIONS;
use super::spec::OptionSpec;
use super::text::nearest;

/// What a file says.
#[derive(Default)]
pub(super) struct Document {
    /// The options in it, in the order of the file.
    pub settings: Vec<Setting>,
    /// What is wrong: key (empty for the document as such), line, problem.
    pub errors: Vec<(String, usize, Problem)>,
}

/// One value of the file.
pub(super) struct Setting {
    pub option: &'static OptionSpec,
    pub value: String,
    /// In quotes or as a block: text, whatever it looks like.
    pub quoted: bool,
    pub line: usize,
}

/// Reads a whole document.
pub(super) fn read(text: &str) -> Document {
    let options = granit_parser::options! { emit_comments: false };
    // Editors on Windows put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        seen: HashMap::new(),
        document: Document::default(),
    };
    if let Err(error) = reader.stream() {
        let problem = Problem::File(format!("isn't valid YAML: {}", error.info()));
        reader.report("", error.marker().line(), problem);
    }
    reader.document
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// Known keys and sections, and the line of each.
    seen: HashMap<String, usize>,
    document: Document,
}

impl<'t> Reader<'t> {
    fn stream(&mut self) -> Result<(), ScanError> {
        let mut documents = 0;
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(()),
                Event::DocumentStart(..) => documents += 1,
                Event::StreamStart | Event::DocumentEnd => {}
                event if documents > 1 => {
                    self.report("", line, Problem::File("holds more than one YAML document".to_owned()));
                    self.skip(&event)?;
                }
                Event::MappingStart(..) => self.mapping("")?,
                Event::Scalar(ref value, style, ..) if is_nothing(value, style) => {}
                event => {
                    let problem =
                        Problem::File(format!("{} stands where sections are expected", found(&event)));
                    self.report("", line, problem);
                    self.skip(&event)?;
                }
            }
        }
    }

    /// Reads the keys of a mapping, whose start was read already. Calls itself for known sections
    /// only, whose depth the table bounds.
    fn mapping(&mut self, prefix: &str) -> Result<(), ScanError> {
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::MappingEnd | Event::StreamEnd => return Ok(()),
                Event::Scalar(name, ..) => {
                    let key = if prefix.is_empty() { name.into_owned() } else { format!("{prefix}.{name}") };
                    self.entry(key, line)?;
                }
                event => {
                    self.report(prefix, line, Problem::NotAKey { found: found(&event) });
                    self.skip(&event)?;
                    let (value, _) = self.next()?;
                    self.skip(&value)?;
                }
            }
        }
    }

    /// Reads the value of `key`.
    fn entry(&mut self, key: String, key_line: usize) -> Result<(), ScanError> {
        let (event, line) = self.next()?;
        let known = Known::of(&key);
        if let Known::Nothing = known {
            // The search takes its time, and a large file of something else has many keys.
            let shown = self.document.errors.len() < SHOWN;
            let nearest = if shown { meant_by(&key) } else { None };
            self.report(&key, key_line, Problem::Unknown { what: "key", nearest });
            return self.skip(&event);
        }
        if let Some(first) = self.seen.insert(key.clone(), key_line) {
            self.report(&key, key_line, Problem::Duplicate { first });
            return self.skip(&event);
        }
        match (known, event) {
            (Known::Section(_), Event::MappingStart(..)) => self.mapping(&key),
            // A section whose every line is commented out.
            (Known::Section(_), Event::Scalar(value, style, ..)) if is_nothing(&value, style) => Ok(()),
            (Known::Section(names), event) => {
                self.report(&key, line, Problem::NotASection { found: found(&event), names });
                self.skip(&event)
            }
            (Known::Option(option), Event::Scalar(value, style, _, None)) if !is_nothing(&value, style) => {
                let quoted = style != ScalarStyle::Plain;
                self.document.settings.push(Setting { option, value: value.into_owned(), quoted, line });
                Ok(())
            }
            (Known::Option(option), event) => {
                // `[::]:9481` without quotes begins a list.
                let hint = if let Event::SequenceStart(..) = event {
                    "; text with brackets needs quotes"
                } else {
                    ""
                };
                let allowed = option.allowed();
                self.report(&key, line, Problem::NotOneValue { found: found(&event), hint, allowed });
                self.skip(&event)
            }
            (Known::Nothing, _) => Ok(()),
        }
    }

    /// Reads over the rest of a node, however deep it is.
    fn skip(&mut self, start: &Event<'t>) -> Result<(), ScanError> {
        let mut depth = opens(start);
        while depth > 0 {
            let (event, _) = self.next()?;
            depth += opens(&event);
            match event {
                Event::MappingEnd | Event::SequenceEnd => depth -= 1,
                Event::StreamEnd => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<(Event<'t>, usize), ScanError> {
        match self.parser.next() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err(error),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn report(&mut self, key: &str, line: usize, problem: Problem) {
        self.document.errors.push((key.to_owned(), line, problem));
    }
}

/// What a key means.
enum Known {
    Option(&'static OptionSpec),
    /// The names in it, for people.
    Section(String),
    Nothing,
}

impl Known {
    fn of(key: &str) -> Self {
        if let Some(option) = OPTIONS.iter().find(|option| option.key == key) {
            return Self::Option(option);
        }
        let names: Vec<_> =
            OPTIONS.iter().filter(|option| option.section() == key).map(OptionSpec::name).collect();
        if names.is_empty() { Self::Nothing } else { Self::Section(names.join(", ")) }
    }
}

/// The nearest key, or else the only option with the same last name: `grace` at the top, `ring.slots`.
fn meant_by(key: &str) -> Option<String> {
    let keys = OPTIONS.iter().flat_map(|option| [option.key, option.section()]);
    nearest(key, keys.map(str::to_owned)).or_else(|| same_name(key))
}

fn same_name(key: &str) -> Option<String> {
    let name = key.rsplit('.').next()?;
    let mut options = OPTIONS.iter().filter(|option| option.name() == name);
    let option = options.next()?;
    options.next().is_none().then(|| option.key.to_owned())
}

fn is_nothing(value: &str, style: ScalarStyle) -> bool {
    style == ScalarStyle::Plain && reads_as_nothing(value)
}

/// Whether it stands for no value unless it is in quotes.
pub(super) fn reads_as_nothing(value: &str) -> bool {
    matches!(value, "" | "~" | "null" | "Null" | "NULL")
}

fn opens(event: &Event<'_>) -> usize {
    usize::from(matches!(event, Event::MappingStart(..) | Event::SequenceStart(..)))
}

fn found(event: &Event<'_>) -> &'static str {
    match event {
        Event::MappingStart(..) => "a mapping",
        Event::SequenceStart(..) => "a list",
        Event::Alias(_) => "an alias",
        Event::Scalar(value, style, ..) if is_nothing(value, *style) => "nothing",
        Event::Scalar(_, _, _, Some(_)) => "a value with a tag",
        _ => "a single value",
    }
}
