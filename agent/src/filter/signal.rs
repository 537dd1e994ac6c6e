//! Signals by name.

use libc::{
    SIGABRT, SIGALRM, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGIO, SIGKILL, SIGPIPE,
    SIGPROF, SIGPWR, SIGQUIT, SIGSEGV, SIGSTKFLT, SIGSTOP, SIGSYS, SIGTERM, SIGTRAP, SIGTSTP, SIGTTIN,
    SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};

pub(super) const SIGNALS: [(&str, i32); 31] = [
    ("SIGHUP", SIGHUP),
    ("SIGINT", SIGINT),
    ("SIGQUIT", SIGQUIT),
    ("SIGILL", SIGILL),
    ("SIGTRAP", SIGTRAP),
    ("SIGABRT", SIGABRT),
    ("SIGBUS", SIGBUS),
    ("SIGFPE", SIGFPE),
    ("SIGKILL", SIGKILL),
    ("SIGUSR1", SIGUSR1),
    ("SIGSEGV", SIGSEGV),
    ("SIGUSR2", SIGUSR2),
    ("SIGPIPE", SIGPIPE),
    ("SIGALRM", SIGALRM),
    ("SIGTERM", SIGTERM),
    ("SIGSTKFLT", SIGSTKFLT),
    ("SIGCHLD", SIGCHLD),
    ("SIGCONT", SIGCONT),
    ("SIGSTOP", SIGSTOP),
    ("SIGTSTP", SIGTSTP),
    ("SIGTTIN", SIGTTIN),
    ("SIGTTOU", SIGTTOU),
    ("SIGURG", SIGURG),
    ("SIGXCPU", SIGXCPU),
    ("SIGXFSZ", SIGXFSZ),
    ("SIGVTALRM", SIGVTALRM),
    ("SIGPROF", SIGPROF),
    ("SIGWINCH", SIGWINCH),
    ("SIGIO", SIGIO),
    ("SIGPWR", SIGPWR),
    ("SIGSYS", SIGSYS),
];

/// The name of a signal, unless it is a real-time one.
pub fn signal_name(number: i32) -> Option<&'static str> {
    SIGNALS.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}
