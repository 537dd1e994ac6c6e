//! The terminal: taken over, drawn on, and given back however this ends.

use std::{
    io::{self, Write as _, stdout},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, Event},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::{Receiver, Sender, channel},
    task::JoinSet,
};

use super::{
    app::{App, Flow},
    source::{News, Source},
    view,
};
use crate::identity::Labels;

/// Keys, and news, that wait for their turn.
const WAITING: usize = 64;

/// Whether the terminal is ours at the moment.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal as long as it is ours.
struct Screen(Terminal<CrosstermBackend<io::Stdout>>);

impl Screen {
    fn take() -> Result<Self> {
        give_back_on_panic();
        IS_TAKEN.store(true, Ordering::SeqCst);
        let taken = enable_raw_mode()
            .and_then(|()| execute!(stdout(), EnterAlternateScreen))
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        match taken {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                give_back();
                Err(error).context("this terminal can't be drawn on; --once prints a table")
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Once, whoever comes first. A terminal that is gone needs nothing any more.
fn give_back() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
        let _ = stdout().flush();
    }
}

/// Before the panic is told, or that would be on the screen that goes. The released agent aborts then: no destructor
/// runs.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            told(info);
        }));
    });
}

/// Shows everything until somebody leaves.
pub(super) async fn run(source: Source, mut app: App, every: Duration) -> Result<()> {
    let mut ends = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<io::Result<Vec<Signal>>>()
        .context("cannot wait for signals")?;
    let mut screen = Screen::take()?;
    let mut keys = keys()?;
    let (tell, mut news) = channel(WAITING);
    let mut tasks = JoinSet::new();
    tasks.spawn(source.clone().keep_looking(every, tell.clone()));
    let mut following = Following { source, every, tell, labels: None, task: JoinSet::new() };
    loop {
        screen.0.draw(|frame| view::draw(&mut app, frame)).context("the terminal can't be drawn on")?;
        let [terminate, interrupt, hangup] = &mut ends[..] else { return Ok(()) };
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            Some(one) = news.recv() => {
                app.hear(one);
                // What has come meanwhile is drawn at once.
                while let Ok(more) = news.try_recv() {
                    app.hear(more);
                }
            }
            key = keys.recv() => match key {
                Some(Ok(Event::Key(key))) => {
                    if app.press(key) == Flow::Quit {
                        return Ok(());
                    }
                }
                // Another size, for example: that is drawn anew in any case.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("the terminal can't be read"),
                None => return Err(anyhow!("the reader of the terminal ended by itself")),
            },
        }
        following.keep_to(app.followed());
    }
}

/// The live events of the container that is looked into.
struct Following {
    source: Source,
    every: Duration,
    tell: Sender<News>,
    labels: Option<Labels>,
    task: JoinSet<()>,
}

impl Following {
    fn keep_to(&mut self, labels: Option<&Labels>) {
        if self.labels.as_ref() == labels {
            return;
        }
        self.labels = labels.cloned();
        // The former one ends with the set.
        self.task = JoinSet::new();
        if let Some(labels) = labels {
            self.task.spawn(self.source.clone().follow(labels.clone(), self.every, self.tell.clone()));
        }
    }
}

/// Reads the terminal in a thread of its own, which waits there until the process ends.
fn keys() -> Result<Receiver<io::Result<Event>>> {
    let (tell, keys) = channel(WAITING);
    let read = move || {
        loop {
            let event = event::read();
            let is_over = event.is_err();
            if tell.blocking_send(event).is_err() || is_over {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("keys".into())
        .spawn(read)
        .context("cannot start the reader of the terminal")?;
    Ok(keys)
}
