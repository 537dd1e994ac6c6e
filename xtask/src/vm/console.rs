//! What the test machine writes to its console, understood.

use std::collections::BTreeSet;

/// Marks lines of the init script; see there.
const MARK: &str = "@@ ";

/// What is known of one run on one kernel.
#[derive(Default)]
pub(super) struct Findings {
    /// All that the machine has written.
    pub(super) log: String,
    /// The agent's own table.
    pub(super) sensors: Vec<String>,
    pub(super) passed: BTreeSet<String>,
    pub(super) failed: BTreeSet<String>,
    /// Tests that said why they did not run.
    pub(super) skipped: Vec<(String, String)>,
    /// What failed tests had to say.
    pub(super) failures: Vec<String>,
    /// The plan was carried out to its end.
    pub(super) done: bool,
    line: String,
    section: Section,
    /// The test program that is running.
    program: String,
    /// The test that is running, or whose output is being shown.
    test: String,
}

#[derive(Default, PartialEq)]
enum Section {
    #[default]
    None,
    Sensors,
    /// Tests, as they go.
    Tests,
    /// Output of the ones that passed, behind the results.
    Successes,
    /// Output of the ones that failed.
    Failures,
}

impl Findings {
    /// Takes what came over the console, lines or pieces of them.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).replace('\r', "");
        self.log.push_str(&text);
        for piece in text.split_inclusive('\n') {
            self.line.push_str(piece);
            if self.line.ends_with('\n') {
                let line = std::mem::take(&mut self.line);
                self.line(line.trim_end());
            }
        }
    }

    /// What is going on, for people who wait.
    pub(super) fn progress(&self) -> String {
        match self.line.strip_prefix("test ").and_then(|rest| rest.split(' ').next()) {
            Some(test) => {
                format!("{} tests, {}: {test}", self.passed.len() + self.failed.len(), self.program)
            }
            None if self.program.is_empty() => "booting".into(),
            None => self.program.clone(),
        }
    }

    fn line(&mut self, line: &str) {
        if let Some(mark) = line.strip_prefix(MARK) {
            return self.mark(mark);
        }
        match self.section {
            Section::None => {}
            Section::Sensors => self.sensors.push(line.to_owned()),
            Section::Tests => self.test_line(line),
            Section::Successes | Section::Failures => self.output_line(line),
        }
    }

    fn mark(&mut self, mark: &str) {
        let mut words = mark.split(' ');
        match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
            ("sensors", _) => self.section = Section::Sensors,
            ("end", _) => self.section = Section::None,
            ("run", program) => {
                self.program = program.to_owned();
                self.section = Section::Tests;
            }
            ("ended", program) => {
                let status = words.next().unwrap_or_default();
                let is_known = self.failed.iter().any(|name| name.starts_with(&format!("{program}::")));
                if status != "0" && !is_known {
                    self.failed
                        .insert(format!("{program}::{} (the test program ended with {status})", self.test));
                }
                self.section = Section::None;
            }
            ("done", _) => self.done = true,
            _ => {}
        }
    }

    /// "test NAME ... ok"; what the test itself lets through may stand in between.
    fn test_line(&mut self, line: &str) {
        let outcome = match line.strip_prefix("test ").and_then(|rest| rest.split_once(" ...")) {
            Some((name, rest)) => {
                self.test = name.to_owned();
                rest.trim_start()
            }
            None => line,
        };
        match outcome.split(',').next().unwrap_or_default() {
            "successes:" => self.section = Section::Successes,
            "failures:" => self.section = Section::Failures,
            "ok" => drop(self.passed.insert(self.full_name())),
            "FAILED" => drop(self.failed.insert(self.full_name())),
            "ignored" => self.skipped.push((self.full_name(), "ignored".into())),
            _ => {}
        }
    }

    fn output_line(&mut self, line: &str) {
        let head = line.strip_prefix("---- ").and_then(|rest| rest.split_once(' '));
        if let Some((name, "stdout ----")) = head {
            self.test = name.to_owned();
        }
        match line {
            "failures:" => self.section = Section::Failures,
            "successes:" => self.section = Section::Successes,
            _ if self.section == Section::Failures => self.failures.push(line.to_owned()),
            _ => {
                if let Some(reason) = line.strip_prefix("not run: ") {
                    let name = self.full_name();
                    self.passed.remove(&name);
                    self.skipped.push((name, reason.to_owned()));
                }
            }
        }
    }

    /// Whether a test whose name contains `word` has passed, in the sense of libtest's filter.
    pub(super) fn has_passed(&self, word: &str) -> bool {
        self.passed.iter().filter_map(|name| name.split_once("::")).any(|(_, test)| test.contains(word))
    }

    fn full_name(&self) -> String {
        format!("{}::{}", self.program, self.test)
    }
}

#[cfg(test)]
mod tests {
    use super::Findings;

    const CONSOLE: &str = "Booting\r\n@@ sensors\r\nSENSOR STATE\ntcp    active\n@@ end\n@@ run tcp\n\nrunning 4 tests\n\
        test a ... ok\ntest b ... workload: hm\nFAILED\ntest c ... ok\ntest d ... ignored, too big\n\n\
        successes:\n\n---- c stdout ----\nnot run: no way\n\n\nsuccesses:\n    a\n    c\n\n\
        failures:\n\n---- b stdout ----\nit is so\n\n\nfailures:\n    b\n\n\
        test result: FAILED. 2 passed; 1 failed\n@@ ended tcp 101\n@@ run oom\ntest e ... \n@@ ended oom 139\n";

    #[test]
    fn results_are_read_however_they_arrive() {
        for size in [1, 7, 4096] {
            let mut findings = Findings::default();
            CONSOLE.as_bytes().chunks(size).for_each(|chunk| findings.hear(chunk));
            assert_eq!(findings.sensors, ["SENSOR STATE", "tcp    active"]);
            assert_eq!(findings.passed.iter().collect::<Vec<_>>(), ["tcp::a"]);
            let failed: Vec<_> = findings.failed.iter().collect();
            assert_eq!(failed, ["oom::e (the test program ended with 139)", "tcp::b"]);
            let skipped =
                [("tcp::d", "ignored"), ("tcp::c", "no way")].map(|(n, r)| (n.to_owned(), r.to_owned()));
            assert_eq!(findings.skipped, skipped);
            assert!(findings.failures.contains(&"it is so".to_owned()));
            assert!(!findings.done);
            assert!(findings.has_passed("a"));
            // Skipped, failed, none, and the name of the program.
            for word in ["c", "b", "nothing", "tcp"] {
                assert!(!findings.has_passed(word), "{word}");
            }
        }
    }

    #[test]
    fn progress_names_the_test_that_runs() {
        let mut findings = Findings::default();
        assert_eq!(findings.progress(), "booting");
        findings.hear(b"@@ run oom\ntest a_kill ... ");
        assert_eq!(findings.progress(), "0 tests, oom: a_kill");
    }
}
