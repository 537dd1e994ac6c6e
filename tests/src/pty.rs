//! A program in front of a terminal that nobody sees.

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use crate::{
    kernel::kill,
    wait::{PATIENCE, wait_for, wait_until},
};

/// Bytes of output that are kept; a test that makes more is wrong.
const BOUND: usize = 16 << 20;
/// Written to the terminal when the program has ended.
const END: &str = "[the program has ended]";

/// A program and its terminal; it is killed when this goes.
pub struct Pty {
    child: Child,
    controller: File,
    /// The end that the program has, kept open so that one can see how it leaves the terminal.
    terminal: OwnedFd,
    output: Arc<Mutex<Vec<u8>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Pty {
    /// Starts a program in front of a terminal of this size.
    #[track_caller]
    pub fn start(mut command: Command, columns: u16, lines: u16) -> Self {
        let (controller, terminal) = open(columns, lines);
        let end = || Stdio::from(terminal.try_clone().expect("another descriptor of the terminal"));
        command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm");
        let enter = || {
            // SAFETY: both calls take no memory; standard input is the terminal by now.
            let is_entered = unsafe { libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0 };
            if is_entered { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: `enter` makes two system calls and allocates nothing, as is fit between fork and exec.
        unsafe { command.pre_exec(enter) };
        let child = command.spawn().expect("the program in front of the terminal");
        let output = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&output);
        let mut from = controller.try_clone().expect("another descriptor of the controller");
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The other end is open for as long as this one is: the end comes by a signal of the test's own.
            while let Ok(length) = from.read(&mut buffer)
                && length > 0
            {
                let mut output = sink.lock().expect("no reader panics");
                assert!(output.len() < BOUND, "more output than any test expects");
                output.extend(&buffer[..length]);
            }
        });
        Self { child, controller, terminal, output, reader: Some(reader) }
    }

    /// Presses keys.
    #[track_caller]
    pub fn press(&mut self, keys: &str) {
        self.controller.write_all(keys.as_bytes()).expect("keys for the terminal");
    }

    /// All that was written so far.
    pub fn output(&self) -> String {
        let output = String::from_utf8_lossy(&self.output.lock().expect("no reader panics")).into_owned();
        output.strip_suffix(END).map(str::to_owned).unwrap_or(output)
    }

    /// Waits until the program has written a text since the output had so many bytes; how many it has then.
    #[track_caller]
    pub fn wait(&self, since: usize, text: &str) -> usize {
        wait_for(PATIENCE, &format!("{text:?} is on the terminal"), || {
            let output = self.output.lock().expect("no reader panics");
            let new = String::from_utf8_lossy(output.get(since..)?).into_owned();
            new.contains(text).then_some(output.len())
        })
    }

    pub fn signal(&self, signal: i32) {
        kill(self.child.id(), signal).expect("a signal for the program");
    }

    /// Waits for the program's end.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status =
            wait_for(PATIENCE, "the program ends", || child.try_wait().expect("wait for the program"));
        // Nothing overtakes anything in a terminal.
        let mut terminal = File::from(self.terminal.try_clone().expect("another descriptor of the terminal"));
        terminal.write_all(END.as_bytes()).expect("a mark on the terminal");
        wait_until(PATIENCE, "the output is read", || {
            self.output.lock().expect("no reader panics").ends_with(END.as_bytes())
        });
        status
    }

    /// Whether keys are echoed and lines are edited, as a shell expects it.
    pub fn is_as_shells_expect(&self) -> bool {
        // SAFETY: an all-zero termios is a valid value, and the kernel fills it.
        let mode = unsafe {
            let mut mode: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.terminal.as_raw_fd(), &mut mode), 0, "tcgetattr");
            mode
        };
        mode.c_lflag & (libc::ECHO | libc::ICANON | libc::ISIG) == libc::ECHO | libc::ICANON | libc::ISIG
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // With the last descriptor of the terminal the reader gets an error.
        let null = File::open("/dev/null").expect("/dev/null");
        self.terminal = null.into();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if thread::panicking() {
            eprintln!("--- on the terminal\n{:?}\n---", self.output());
        }
    }
}

fn open(columns: u16, lines: u16) -> (File, OwnedFd) {
    let (mut controller, mut terminal) = (-1, -1);
    let size = libc::winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both descriptors and the size live through the call; no name and no mode are wanted.
    let result = unsafe {
        libc::openpty(&mut controller, &mut terminal, std::ptr::null_mut(), std::ptr::null(), &size)
    };
    assert_eq!(result, 0, "openpty: {}", std::io::Error::last_os_error());
    // SAFETY: the call has made both, and nobody else has them.
    unsafe { (File::from_raw_fd(controller), OwnedFd::from_raw_fd(terminal)) }
}
