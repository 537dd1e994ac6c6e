//! `podwitness record`: what it can't write is said, and shows in its exit code.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, pipe},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use integration_tests::{
    agent::{command, output, run},
    kernel::kill,
    otlp::Directory,
    require_kernel,
    wait::{PATIENCE, wait_for, wait_until, within},
};

const LISTEN: [&str; 4] = ["--metrics-listen", "127.0.0.1:0", "--debug-listen", "127.0.0.1:0"];

/// More than it says.
const LINES: usize = 1024;

/// A recording agent; it is killed when this goes.
struct Recording(Child);

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_full_disk_is_found_before_anything_is_loaded() {
    let output = run(&[&["record", "/dev/full"], &LISTEN[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/dev/full") && said.matches("No space left").count() == 1, "{said}");
    assert!(said.contains("is there room"), "what to do: {said}");
}

/// As `podwitness replay FILE | head -c1` has it, when `head` has gone.
#[test]
fn a_replay_that_nobody_reads_on_has_not_failed() {
    let directory = Directory::new();
    let file = directory.0.join("recording");
    fs::write(&file, include_str!("../../agent/src/recording/testdata/life.jsonl")).expect("a recording");
    let file = file.display().to_string();
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let replay_to = |stdout: Stdio| {
        let mut command = command(&["replay", &file]);
        output(command.stdout(stdout).stderr(Stdio::piped()).spawn().expect("the replay"))
    };
    let output = replay_to(writer.into());
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let output = replay_to(full.into());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("standard output") && said.matches("No space left").count() == 1, "{said}");

    let output = run(&["replay", "/nowhere/recording"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/nowhere/recording") && said.matches("No such file").count() == 1, "{said}");
}

#[test]
fn a_recording_that_ends_early_is_told_of() {
    require_kernel!();
    let directory = Directory::new();
    let fifo = directory.0.join("recording");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let path = fifo.display().to_string();
    let agent = command(&[&["record", &path], &LISTEN[..]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the agent");
    let mut agent = Recording(agent);
    let (into, said) = mpsc::sync_channel(LINES);
    let stderr = BufReader::new(agent.0.stderr.take().expect("piped"));
    let reader = thread::spawn(move || {
        stderr.lines().map_while(Result::ok).for_each(|line| into.send(line).expect("the test reads"));
    });

    // Whoever reads gets all that was seen so far, and goes.
    let lines = within(PATIENCE * 3, "the agent begins its recording", move || {
        let mut lines = String::new();
        BufReader::new(File::open(&fifo).expect("a reader")).read_line(&mut lines).expect("its head");
        lines
    });
    assert!(lines.contains("\"format\""), "{lines}");
    let mut lines = Vec::new();
    wait_until(PATIENCE, "something was seen that could not be written", || {
        assert!(Command::new("true").status().expect("true").success());
        lines.extend(said.try_iter());
        lines.iter().any(|line| line.contains("the recording ends here") && line.contains(&path))
    });
    assert!(agent.0.try_wait().expect("the agent").is_none(), "it goes on");
    kill(agent.0.id(), libc::SIGTERM).expect("SIGTERM");
    let status = wait_for(PATIENCE, "the agent ends", || agent.0.try_wait().expect("the agent"));
    reader.join().expect("its reader");
    lines.extend(said.try_iter());
    assert_eq!(status.code(), Some(1), "{lines:#?}");
    assert!(lines.last().expect("its last word").contains("not whole"), "{lines:#?}");
}
