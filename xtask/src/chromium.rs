//! What Chromium goes by. `cargo xtask` and the harness of the live tests both compile this very file, so that what the
//! one finds or installs, the other finds, too.

/// The smallest build first, which is the one to install.
pub(crate) const NAMES: [&str; 5] =
    ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
