//! Running other programs: quietly with a live line, or in full view.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, pipe, stderr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::steps::Live;

/// How much of a failed program's output is worth showing.
const TAIL: usize = 25;

/// The cargo that runs us, or the one on the PATH.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    cargo
}

/// The root of the workspace this program was compiled in.
pub(crate) fn workspace() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().map(Into::into).unwrap_or(xtask)
}

/// Where cargo puts what it builds, which several variables and files may tell it: it is asked, once.
pub(crate) fn target_directory() -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let ask = || {
        let said = output(cargo().args(["metadata", "--no-deps", "--format-version=1", "--offline"]));
        said.as_deref().and_then(target_directory_in).unwrap_or_else(|| workspace().join("target"))
    };
    DIRECTORY.get_or_init(ask).clone()
}

/// Of what cargo says of the workspace, an object of JSON on one line.
fn target_directory_in(said: &str) -> Option<PathBuf> {
    let (_, rest) = said.split_once("\"target_directory\":\"")?;
    let (path, _) = rest.split_once("\",")?;
    Some(path.replace("\\\"", "\"").replace("\\\\", "\\").into())
}

/// Runs `command` in full view: first the command itself, then whatever it prints.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", describe(command));
    let status = command.status().with_context(|| format!("cannot run {}", program(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs `command` and shows each line of its output that `watch` says is worth it. Whether it succeeded.
pub(crate) fn show_and_watch(mut command: Command, mut watch: impl FnMut(&str) -> bool) -> Result<bool> {
    eprintln!("$ {}", describe(&command));
    if stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    // One pipe for both streams keeps their lines in order.
    let (reader, writer) = pipe().context("cannot create a pipe")?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot run {}", program(&command)))?;
    // It holds our ends of the pipe, which has to close with the child's.
    drop(command);
    for line in lines(reader) {
        if watch(&line) {
            eprintln!("{line}");
        }
    }
    Ok(child.wait()?.success())
}

/// Runs `command` with its output condensed into the live line; a failure shows the end of it.
pub(crate) fn quietly(command: &mut Command, live: &Live) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", program(command)))?;
    let (sender, output) = mpsc::sync_channel(1024);
    forward(child.stdout.take().context("no standard output")?, sender.clone());
    forward(child.stderr.take().context("no standard error")?, sender);

    let mut tail = VecDeque::new();
    loop {
        match output.recv_timeout(Duration::from_millis(250)) {
            Ok(line) => {
                live.line(&line);
                tail.push_back(line);
                if tail.len() > TAIL {
                    tail.pop_front();
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        live.tick();
    }
    let status = child.wait()?;
    if !status.success() {
        let tail: String = tail.iter().map(|line| format!("\n    {line}")).collect();
        bail!("`{}` ended with {status}:{tail}", describe(command));
    }
    Ok(())
}

/// What `command` prints, if it succeeds.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    if output.status.success() { String::from_utf8(output.stdout).ok() } else { None }
}

/// `command` as it would be typed.
fn describe(command: &Command) -> String {
    let words = command.get_args().map(OsStr::to_string_lossy);
    [program(command).into()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

fn program(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned()
}

fn forward(from: impl Read + Send + 'static, to: SyncSender<String>) {
    thread::spawn(move || lines(from).try_for_each(|line| to.send(line)));
}

/// Lines of text; bytes that are not text don't end the stream.
fn lines(from: impl Read) -> impl Iterator<Item = String> {
    let chunks = BufReader::new(from).split(b'\n');
    chunks.map_while(Result::ok).map(|line| String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{target_directory, target_directory_in};

    #[test]
    fn cargo_tells_where_it_builds() {
        let said = r#"{"packages":[],"workspace_root":"/w","target_directory":"/t/\"of\" us","version":1}"#;
        assert_eq!(target_directory_in(said), Some(PathBuf::from("/t/\"of\" us")));
        assert_eq!(target_directory_in("error"), None);
        assert!(target_directory().is_absolute());
    }
}
