//! How it looks. Every text that a workload has chosen comes here escaped.

mod detail;
mod list;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

use super::app::App;
use crate::harmless::Harmless;

/// From this height on there is room for the keys.
const ROOMY: u16 = 8;

pub(super) const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
pub(super) const DIM: Style = Style::new().add_modifier(Modifier::DIM);
pub(super) const BAD: Style = Style::new().fg(Color::Red);
pub(super) const WARN: Style = Style::new().fg(Color::Yellow);

/// Draws everything.
pub(super) fn draw(app: &mut App, frame: &mut Frame<'_>) {
    let area = frame.area();
    let keys = if area.height >= ROOMY { 2 } else { 0 };
    let [top, second, body, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(keys),
    ])
    .areas(area);
    frame.render_widget(node(app), top);
    frame.render_widget(state(app), second);
    let bottom_lines = if app.detail.is_some() {
        detail::draw(app, frame, body);
        detail::keys()
    } else {
        list::draw(app, frame, body);
        list::keys(app)
    };
    lines(frame, bottom, bottom_lines);
}

/// Line for line, as far as there is room.
pub(super) fn lines<'l>(frame: &mut Frame<'_>, area: Rect, lines: impl IntoIterator<Item = Line<'l>>) {
    for (line, row) in lines.into_iter().zip(area.rows()) {
        frame.render_widget(line, row);
    }
}

/// Which agent it is.
fn node(app: &App) -> Line<'static> {
    let Some(look) = app.last() else {
        return Line::styled(format!("podwitness top  {}", Harmless(&app.address)), BOLD);
    };
    let (status, containers) = (&look.status, &look.containers);
    let wanted = app.rows().len();
    let alive = containers.containers.iter().filter(|container| container.alive).count();
    let time = containers.time.strftime("%H:%M:%S");
    Line::from(vec![
        Span::styled(format!("{}", Harmless(&status.node)), BOLD),
        Span::raw(format!(
            "  {time} UTC  podwitness {}  {wanted} of {} containers, {alive} alive",
            Harmless(&status.version),
            containers.containers.len(),
        )),
    ])
}

/// What is wrong, if anything is.
fn state(app: &App) -> Line<'static> {
    if let Some(trouble) = &app.trouble {
        // What matters comes first: the reason may be longer than the line.
        let since = app.last().map(|look| look.containers.time.strftime(" since %H:%M:%S UTC").to_string());
        let since = since.unwrap_or_default();
        return Line::styled(format!("no answer{since}, trying again: {}", Harmless(trouble)), BAD);
    }
    let Some(look) = app.last() else { return Line::styled("asking the agent…", DIM) };
    let mut told = Vec::new();
    for (name, sensor) in &look.status.sensors {
        let name = Harmless(name);
        if matches!(&*sensor.state, "degraded" | "unsupported") {
            let reason = sensor.reason.as_deref().unwrap_or_default();
            told.push(format!("{name} {}: {}", Harmless(&sensor.state), Harmless(reason)));
        }
        if sensor.lost > 0 {
            told.push(format!("{name} lost {} events", sensor.lost));
        }
    }
    if told.is_empty() {
        let filter = match app.filter_text.trim() {
            "" => String::new(),
            text => format!("filter: {}", Harmless(text)),
        };
        return Line::styled(filter, DIM);
    }
    Line::styled(told.join("; "), WARN)
}
