//! The processors that podwitness is built for, by each of their names.

use std::env;

use anyhow::{Result, bail};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The one of this machine.
    pub(crate) fn host() -> Result<Self> {
        Self::parse(env::consts::ARCH)
    }

    /// By either of its names.
    pub(crate) fn parse(word: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|one| [one.name(), one.debian()].contains(&word)) {
            Some(found) => Ok(found),
            None => bail!("`{word}` is none of the architectures amd64 (x86_64) and arm64 (aarch64)"),
        }
    }

    /// What the kernel, GCC and Rust call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// What Debian, Go and with it OCI images call it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Rust's target.
    pub(crate) fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.name())
    }

    /// What GCC's programs begin with, and Debian's directories of libraries are called.
    pub(crate) fn gnu(self) -> String {
        format!("{}-linux-gnu", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Architecture;

    #[test]
    fn an_architecture_goes_by_two_names() {
        for (word, expected) in [("arm64", Architecture::Aarch64), ("x86_64", Architecture::X86_64)] {
            assert_eq!(Architecture::parse(word).unwrap(), expected);
        }
        assert!(Architecture::parse("riscv64").is_err());
    }
}
