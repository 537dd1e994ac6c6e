//! As many series as there may be (`metrics.series_limit`).
//!
//! A page below the limit passes as it is, and costs nothing but to be remembered. What is beyond is folded: first
//! the errno, then the peer, the system call, the container and the workload become `other`. A series that was shown
//! once stays for as long as its container does, and what was folded stays folded, so that no counter ever goes back
//! and no sum misses anything: only what is new is judged.

mod fold;
mod folding;
mod share;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(super) use self::fold::{Fold, without};
use self::folding::Folding;
use super::Page;

/// Series that the account of all others has at most, for which there is always room: 107 with all details folded.
const OTHERS: usize = 120;

/// What is known from one page to the next.
pub(super) struct Budget {
    /// 0 is no limit.
    limit: usize,
    /// The last page, while all of it was shown: what was on it has to stay.
    last: Option<Arc<Page>>,
    /// None while nothing is folded.
    folding: Option<Folding>,
}

/// Of one page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Series of containers.
    pub series: usize,
    /// Series that there would be besides, by what was folded to make them fit.
    pub folded: [usize; Fold::ALL.len()],
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, last: None, folding: None }
    }

    /// Brings a page of containers within the limit.
    pub(super) fn fit(&mut self, page: Page) -> (Page, Figures) {
        let series = page.series();
        if self.folding.is_none() && (self.limit == 0 || series <= ceiling(self.limit, Fold::Errno)) {
            return (page, Figures { series, ..Figures::default() });
        }
        let former = self.folding.take().unwrap_or_else(|| Folding::of(self.last.take().as_deref()));
        let (folding, page, figures) = former.next(page, |fold| ceiling(self.limit, fold));
        self.folding = Some(folding).filter(|folding| !folding.is_idle());
        (page, figures)
    }

    /// Whoever had these base labels goes by others from now on. What of theirs was given to others stays there.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some(folding) = &mut self.folding {
            folding.rename(from, to);
        }
    }

    /// What is shown now.
    pub(super) fn remember(&mut self, page: &Arc<Page>) {
        self.last = (self.limit > 0 && self.folding.is_none()).then(|| Arc::clone(page));
    }
}

/// Up to how many series on the page there may be new ones that this has not folded. The coarser they are, the longer:
/// where details have filled the page, there is still room for whoever comes.
fn ceiling(limit: usize, fold: Fold) -> usize {
    let percent = match fold {
        Fold::Errno => 90,
        Fold::Peer => 92,
        Fold::Syscall => 94,
        Fold::Container => 97,
        Fold::Workload => 100,
    };
    // A limit may be large enough for a product to be too large.
    (limit.saturating_sub(OTHERS) as u64).saturating_mul(percent).div_euclid(100) as usize
}
