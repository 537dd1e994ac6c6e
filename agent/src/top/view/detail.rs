//! One container.

use agent_ebpf::contract::stats::SensorId::{self, Oom, Process, Syscalls, Tcp};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
};

use super::{BAD, BOLD, DIM, WARN, list::key};
use crate::{
    harmless::Harmless,
    tail::{bytes, duration},
    top::{
        app::App,
        columns::{nothing, place, rate},
        detail::{self, Detail},
        rates::Row,
    },
};

/// Lines of figures.
const FIGURES: u16 = 5;
/// Columns of the list of calls.
const CALLS: u16 = 36;

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let Some(detail) = &app.detail else { return };
    let row = app.watch.rows().iter().find(|row| row.labels == detail.labels);
    let middle = (area.height.saturating_sub(FIGURES) / 2).min(14);
    let [figures, middle, events] =
        Layout::vertical([Constraint::Length(FIGURES), Constraint::Length(middle), Constraint::Min(0)])
            .areas(area);
    super::lines(frame, figures, self::figures(detail, row));
    let [calls, rest] =
        Layout::horizontal([Constraint::Max(CALLS), Constraint::Min(0)]).spacing(1).areas(middle);
    super::lines(frame, calls, self::calls(row));
    let [deaths, open] = Layout::vertical([Constraint::Ratio(1, 2), Constraint::Ratio(1, 2)]).areas(rest);
    super::lines(frame, deaths, self::deaths(row, deaths.height));
    super::lines(frame, open, self::open(detail));
    super::lines(frame, events, self::events(detail, events.height));
}

pub(super) fn keys() -> [Line<'static>; 2] {
    let keys = [("Esc", "back"), ("p", "pause, or go on with, the events"), ("q", "quit")];
    [Line::default(), Line::from_iter(keys.into_iter().flat_map(|(name, does)| key(name, does)))]
}

fn figures(detail: &Detail, row: Option<&Row>) -> Vec<Line<'static>> {
    let labels = &detail.labels;
    let kind = Harmless(&labels.workload_kind).to_string();
    let workload = Harmless(&labels.workload).to_string();
    let mut lines = vec![Line::from(vec![
        Span::styled(place(labels), BOLD),
        Span::styled(format!("  {kind} {workload}"), DIM),
    ])];
    let Some(row) = row else {
        lines.push(Line::styled("The agent tells of it no more.", WARN));
        return lines;
    };
    let cgroups = match (row.cgroups.alive, row.cgroups.dead) {
        (0, _) => "not alive".to_owned(),
        (1, 0) => "alive".to_owned(),
        (alive, dead) => format!("{alive} cgroups alive, {dead} gone lately"),
    };
    let figures = &row.figures;
    let of = |sensor: SensorId, seen: String| if row.is_blind(sensor) { nothing() } else { seen };
    match &row.rates {
        Some(rates) => {
            lines.push(Line::raw(format!(
                "a second: {} calls, {} of them failed; {} connects, {} failed; {} accepts; {} processes",
                of(Syscalls, rate(rates.syscalls)),
                of(Syscalls, rate(rates.syscall_errors)),
                of(Tcp, rate(rates.connects)),
                of(Tcp, rate(rates.connect_failures)),
                of(Tcp, rate(rates.accepts)),
                of(Process, rate(rates.starts)),
            )));
            let rtt = rates.rtt.map(|rtt| format!(", round trips of {}", duration(rtt))).unwrap_or_default();
            lines.push(Line::raw(format!(
                "  and {} connections closed: {} sent, {} received, {} retransmits{rtt}",
                of(Tcp, rate(rates.closes)),
                of(Tcp, bytes(rates.sent as u64)),
                of(Tcp, bytes(rates.received as u64)),
                of(Tcp, rate(rates.retransmits)),
            )));
        }
        None => lines.push(Line::raw("a second: not known before the next answer")),
    }
    lines.push(memory(row));
    let exits = figures.process_exits.iter().map(|(reason, count)| format!("{} {count}", Harmless(reason)));
    let exits = exits.collect::<Vec<_>>().join(", ");
    let exits = if exits.is_empty() { String::new() } else { format!("; exits: {exits}") };
    lines.push(Line::raw(format!(
        "{cgroups}; since the agent runs {} processes, {} OOM kills{exits}",
        of(Process, figures.processes_started.to_string()),
        of(Oom, figures.oom_kills.to_string()),
    )));
    lines
}

fn memory(row: &Row) -> Line<'static> {
    let Some(memory) = row.memory else { return Line::styled("memory: not told", DIM) };
    let limit = memory
        .limit_bytes
        .map_or_else(|| "no limit of its own".into(), |limit| format!("limit {}", bytes(limit)));
    let headroom = memory.headroom_bytes.map_or_else(
        || "no limit around it".into(),
        |headroom| format!("{} to the next OOM kill", bytes(headroom)),
    );
    Line::raw(format!(
        "memory: {} in use, {} of it needed; {limit}; {headroom}",
        bytes(memory.usage_bytes),
        bytes(memory.working_set_bytes)
    ))
}

fn calls(row: Option<&Row>) -> Vec<Line<'static>> {
    let mut lines = vec![title(format!("{:<20}{:>7} {:>8}", "BUSIEST CALLS", "/S", "ALL"))];
    for call in row.map_or(&[][..], |row| &row.calls) {
        let a_second = call.rate.map_or_else(|| "-".into(), rate);
        let style = if call.rate.is_some_and(|rate| rate > 0.0) { Style::new() } else { DIM };
        let name = Harmless(&call.name).to_string();
        lines.push(Line::styled(format!("{name:<20}{a_second:>7} {:>8}", call.total), style));
    }
    lines
}

/// The newest that find room.
fn deaths(row: Option<&Row>, height: u16) -> Vec<Line<'static>> {
    let mut lines = vec![title("RECENT DEATHS".into())];
    let deaths = row.map_or(&[][..], |row| &row.deaths);
    match row.filter(|row| row.is_blind(Process)) {
        Some(_) => lines.push(Line::styled(
            "how processes end is not seen there: the sensor process is off or unsupported",
            WARN,
        )),
        None if deaths.is_empty() => lines.push(Line::styled("none", DIM)),
        None => {}
    }
    let room = usize::from(height).saturating_sub(lines.len());
    lines.extend(deaths.iter().rev().take(room).map(|death| event(&detail::line(death))));
    lines
}

fn open(detail: &Detail) -> Vec<Line<'static>> {
    let mut lines = vec![title("CONNECTIONS OPENED SINCE, AND STILL OPEN".into())];
    let connections = detail.open_connections();
    if connections.is_empty() {
        lines.push(Line::styled("none", DIM));
    }
    let counted = |(what, count): (String, u64)| Line::raw(format!("{count:>5}  {what}"));
    lines.extend(connections.into_iter().map(counted));
    let files = detail.troubled_files();
    if !files.is_empty() {
        lines.push(title("FILES OF SLOW AND FAILED CALLS".into()));
        lines.extend(files.into_iter().map(counted));
    }
    if detail.untold > 0 {
        lines.insert(1, Line::styled(format!("{} found no room here", detail.untold), WARN));
    }
    lines
}

fn events(detail: &Detail, height: u16) -> Vec<Line<'static>> {
    let paused = if detail.is_paused { " (paused)" } else { "" };
    let mut lines = vec![title(format!("LIVE EVENTS{paused}"))];
    lines.extend(detail.silence.as_ref().map(|why| Line::styled(Harmless(why).to_string(), WARN)));
    let room = usize::from(height).saturating_sub(lines.len());
    let first = detail.lines.len().saturating_sub(room);
    lines.extend(detail.lines.range(first..).map(event));
    lines
}

fn event(line: &detail::Line) -> Line<'static> {
    Line::styled(line.text.clone(), if line.is_bad { BAD } else { Style::new() })
}

fn title(text: String) -> Line<'static> {
    Line::styled(text, BOLD)
}
