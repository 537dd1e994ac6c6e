//! What is shown, and what keys do to it. Nothing here touches a terminal.

use ratatui::{
    crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    widgets::TableState,
};

use super::{
    columns::{COLUMNS, Sort},
    detail::Detail,
    rates::{Row, Watch},
    source::News,
    told::Look,
};
use crate::{
    filter::{Filter, MAX_LENGTH, ParseError},
    identity::Labels,
};

/// Rows by which a page moves.
const PAGE: usize = 10;

pub(super) struct App {
    pub address: String,
    pub watch: Watch,
    /// Why nothing new has come.
    pub trouble: Option<String>,
    pub sort: Sort,
    pub filter: Filter,
    pub filter_text: String,
    /// A filter that is being written.
    pub entry: Option<String>,
    /// Follows its container, wherever that stands.
    pub selected: Option<Labels>,
    /// What is seen of the table.
    pub table: TableState,
    pub detail: Option<Detail>,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Go,
    Quit,
}

impl App {
    pub(super) fn new(address: String, filter_text: String, filter: Filter, sort: Sort) -> Self {
        Self {
            address,
            watch: Watch::default(),
            trouble: None,
            sort,
            filter,
            filter_text,
            entry: None,
            selected: None,
            table: TableState::default(),
            detail: None,
        }
    }

    pub(super) fn last(&self) -> Option<&Look> {
        self.watch.last()
    }

    /// The containers that are wanted, in order.
    pub(super) fn rows(&self) -> Vec<&Row> {
        let is_wanted = |row: &&Row| self.filter.may_want_container(&row.labels);
        let mut rows: Vec<_> = self.watch.rows().iter().filter(is_wanted).collect();
        self.sort.apply(&mut rows);
        rows
    }

    /// Where the chosen container stands; the first, if none is chosen or it is gone.
    pub(super) fn position(&self, rows: &[&Row]) -> usize {
        let is_selected = |row: &&Row| Some(&row.labels) == self.selected.as_ref();
        rows.iter().position(is_selected).unwrap_or(0)
    }

    /// What is wrong with the filter that is being written.
    pub(super) fn mistake(&self) -> Option<ParseError> {
        Filter::of_containers(self.entry.as_ref()?).err()
    }

    /// Whose live events are wanted.
    pub(super) fn followed(&self) -> Option<&Labels> {
        self.detail.as_ref().map(|detail| &detail.labels)
    }

    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Looked(look) => match *look {
                Ok(look) => {
                    self.trouble = None;
                    self.watch.take(look);
                }
                Err(error) => self.trouble = Some(error),
            },
            News::Events(labels, events) => {
                if let Some(detail) = self.detail.as_mut().filter(|detail| detail.labels == labels) {
                    detail.hear(events);
                }
            }
            News::Silent(labels, why) => {
                if let Some(detail) = self.detail.as_mut().filter(|detail| detail.labels == labels) {
                    detail.fall_silent(why);
                }
            }
        }
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Flow {
        if key.kind == KeyEventKind::Release {
            return Flow::Go;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            // In raw mode it is a key as any other.
            return if key.code == KeyCode::Char('c') { Flow::Quit } else { Flow::Go };
        }
        if self.entry.is_some() {
            self.write(key.code);
            return Flow::Go;
        }
        if key.code == KeyCode::Char('q') {
            return Flow::Quit;
        }
        match &mut self.detail {
            Some(detail) => match key.code {
                KeyCode::Char('p') => detail.is_paused = !detail.is_paused,
                KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => self.detail = None,
                _ => {}
            },
            None => self.press_in_list(key.code),
        }
        Flow::Go
    }

    fn press_in_list(&mut self, code: KeyCode) {
        match code {
            KeyCode::Up | KeyCode::Char('k') => self.step(|at, _| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.step(|at, _| at + 1),
            KeyCode::PageUp => self.step(|at, _| at.saturating_sub(PAGE)),
            KeyCode::PageDown => self.step(|at, _| at + PAGE),
            KeyCode::Home => self.step(|_, _| 0),
            KeyCode::End => self.step(|_, last| last),
            KeyCode::Enter | KeyCode::Right => {
                let rows = self.rows();
                let labels = rows.get(self.position(&rows)).map(|row| row.labels.clone());
                self.selected.clone_from(&labels);
                self.detail = labels.map(Detail::new);
            }
            KeyCode::Char('/') => self.entry = Some(self.filter_text.clone()),
            KeyCode::Char('r') => self.sort.is_reversed = !self.sort.is_reversed,
            KeyCode::Char(key) => {
                if let Some(column) = COLUMNS.iter().position(|column| column.key == key) {
                    self.sort = Sort { column, is_reversed: false };
                }
            }
            _ => {}
        }
    }

    /// Chooses another row: from its place and that of the last.
    fn step(&mut self, to: fn(usize, usize) -> usize) {
        let rows = self.rows();
        let last = rows.len().saturating_sub(1);
        let at = to(self.position(&rows), last).min(last);
        self.selected = rows.get(at).map(|row| row.labels.clone());
    }

    /// A key while a filter is being written.
    fn write(&mut self, code: KeyCode) {
        let Some(entry) = &mut self.entry else { return };
        match code {
            KeyCode::Esc => self.entry = None,
            KeyCode::Backspace => drop(entry.pop()),
            KeyCode::Enter => {
                // One with a mistake stays, with what is said about it.
                if let Ok(filter) = Filter::of_containers(entry) {
                    self.filter_text = std::mem::take(entry);
                    self.filter = filter;
                    self.entry = None;
                }
            }
            KeyCode::Char(char) if entry.len() + char.len_utf8() <= MAX_LENGTH => entry.push(char),
            _ => {}
        }
    }
}
