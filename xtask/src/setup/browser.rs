//! A browser without a window, for the test of the page.

use anyhow::Result;

use super::apt::Apt;
use crate::chromium::NAMES;
use crate::kernel_half::on_path;
use crate::machine;
use crate::steps::{Live, Outcome};

pub(super) fn ensure(apt: &mut Apt, live: &Live) -> Result<Outcome> {
    if NAMES.iter().any(|name| on_path(name).is_some()) {
        return Ok(Outcome::AlreadyThere);
    }
    match apt.install(&NAMES[..1], live) {
        Ok(()) => Ok(Outcome::Done),
        Err(error) if machine::is_ci() => Err(error),
        Err(error) => Ok(Outcome::Skipped(format!("no Chromium on the PATH, and none to be had: {error:#}"))),
    }
}
