//! All containers.

use ratatui::{
    Frame,
    layout::{Constraint, Rect},
    style::{Modifier, Style},
    text::{Line, Span, Text},
    widgets::{Cell, Row as TableRow, Table},
};
use unicode_width::UnicodeWidthStr as _;

use super::{BAD, BOLD, DIM};
use crate::{
    harmless::{Harmless, is_hostile},
    tail::shortened,
    top::{
        app::App,
        columns::{COLUMNS, Column, nothing},
        rates::Row,
    },
};

/// The most columns for names as long as others need room, too.
const NAMES: u16 = 40;
/// Between two columns.
const SPACING: u16 = 1;
/// Where nothing happens, there is no reason to look closely.
const IDLE: [&str; 2] = ["0", "0B"];

pub(super) fn draw(app: &mut App, frame: &mut Frame<'_>, area: Rect) {
    let rows = app.rows();
    let names = rows.iter().map(|row| COLUMNS[0].shown(row).width()).max().unwrap_or_default();
    let (columns, name_width) = fitting(area.width, names, app.sort.column);
    let (count, position) = (rows.len(), app.position(&rows));
    let shown: Vec<_> = rows.iter().map(|row| table_row(row, &columns, name_width)).collect();
    let header =
        columns.iter().map(|(at, column)| title(column, *at == app.sort.column, app.sort.is_reversed));
    let widths = columns.iter().map(|(at, column)| match at {
        0 => Constraint::Length(name_width),
        _ => Constraint::Length(column.width),
    });
    let table = Table::new(shown, widths)
        .header(TableRow::new(header).style(BOLD))
        .column_spacing(SPACING)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    app.table.select((count > 0).then_some(position));
    frame.render_stateful_widget(table, area, &mut app.table);
    if count == 0 {
        let why = match app.last() {
            Some(look) if !look.containers.containers.is_empty() => "no container is wanted by the filter",
            Some(_) => "no container is known yet",
            None => return,
        };
        super::lines(frame, area, [Line::default(), Line::styled(why, DIM)]);
    }
}

/// The columns that find room, and how wide the first is. What is least needed goes first, but not what is sorted by.
fn fitting(width: u16, names: usize, sorted: usize) -> (Vec<(usize, &'static Column)>, u16) {
    let mut columns: Vec<_> = COLUMNS.iter().enumerate().collect();
    // Long names get a third of the screen, if need be.
    let names = u16::try_from(names).unwrap_or(u16::MAX).min((width / 3).clamp(COLUMNS[0].width, NAMES));
    loop {
        let others: u16 = columns[1..].iter().map(|(_, column)| column.width + SPACING).sum();
        if columns.len() == 1 || others + names.max(COLUMNS[0].title.len() as u16) <= width {
            return (columns, width.saturating_sub(others));
        }
        let need = |(_, (at, column)): &(usize, &(usize, &Column))| {
            if *at == sorted { 0 } else { column.expendable }
        };
        let least_needed = columns.iter().enumerate().skip(1).max_by_key(need);
        let at = least_needed.map_or(1, |(at, _)| at);
        columns.remove(at);
    }
}

fn title(column: &Column, is_sorted: bool, is_reversed: bool) -> Cell<'static> {
    let mark = match (is_sorted, is_reversed) {
        (false, _) => "",
        (true, false) => "↓",
        (true, true) => "↑",
    };
    let style = if is_sorted { Style::new().add_modifier(Modifier::UNDERLINED) } else { Style::new() };
    aligned(column, Line::styled(format!("{}{mark}", column.title), style))
}

fn aligned(column: &Column, line: Line<'static>) -> Cell<'static> {
    let line = if column.is_number() { line.right_aligned() } else { line };
    Cell::from(Text::from(line))
}

fn table_row(row: &Row, columns: &[(usize, &'static Column)], name_width: u16) -> TableRow<'static> {
    let cells = columns.iter().map(|(at, column)| {
        let shown = column.shown(row);
        let is_bad =
            matches!(column.name, "errors" | "failed" | "deaths" | "oom") && !IDLE.contains(&&*shown);
        let style = match column.name {
            _ if IDLE.contains(&&*shown) || shown == nothing() => DIM,
            "failed" | "oom" if is_bad => BAD,
            _ => Style::new(),
        };
        let shown = if *at == 0 { shortened(&shown, name_width.into()) } else { shown };
        aligned(column, Line::styled(shown, style))
    });
    let style = if row.alive { Style::new() } else { DIM };
    TableRow::new(cells.collect::<Vec<_>>()).style(style)
}

/// What keys do; or the filter that is being written, with what is wrong with it.
pub(super) fn keys(app: &App) -> [Line<'static>; 2] {
    let Some(entry) = &app.entry else {
        let sorts = COLUMNS.iter().flat_map(|column| key(&column.key.to_string(), column.name));
        let others =
            [("↑↓", "move"), ("Enter", "look into"), ("/", "filter"), ("r", "reverse"), ("q", "quit")];
        let others: Vec<_> = others.into_iter().flat_map(|(name, does)| key(name, does)).collect();
        return [Line::from_iter([Span::raw("sort by ")].into_iter().chain(sorts)), Line::from(others)];
    };
    // A column for each character, or the mark would stand elsewhere.
    let shown: String = entry.chars().map(|char| if is_hostile(char) { '\u{fffd}' } else { char }).collect();
    let written = Line::from(vec![Span::styled("filter: ", BOLD), Span::raw(shown), Span::raw("▏")]);
    let Some(mistake) = app.mistake() else {
        let help = "Enter takes it, Esc leaves it as it was; such as namespace=shop not pod~\"^test-\"";
        return [written, Line::styled(help, DIM)];
    };
    let pointer = mistake.pointer(entry);
    let below = pointer.lines().nth(1).unwrap_or_default();
    // Under the place while that is near; the words follow it.
    let marks = if entry.len() < 60 { format!("        {below} ") } else { String::new() };
    [written, Line::styled(format!("{marks}{}", Harmless(&mistake.to_string())), BAD)]
}

/// A key, and what it does.
pub(super) fn key(name: &str, does: &str) -> [Span<'static>; 2] {
    [Span::styled(name.to_owned(), BOLD), Span::raw(format!(" {does}  "))]
}
