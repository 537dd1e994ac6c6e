//! As many series as there may be (`metrics.series_limit`).
//!
//! A page below the limit passes as it is, and costs nothing but to be remembered. What is beyond is folded: first
//! the errno, then the peer, the system call, the container and the workload become `other`. A series that was shown
//! once stays for as long as its container does, so that no counter ever goes back and no sum misses anything: only what
//! is new is judged. When there is plenty of room again, what was folded is judged once more. What it has counted by then
//! stays where it was shown; its own series begin with nothing.

mod fold;
mod folding;
mod share;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(super) use self::fold::{Fold, without};
use self::folding::Folding;
use super::Page;

/// Percent of the limit. While the page has less, what was folded may come back. New details stop at more than that, so
/// this doesn't happen all the time.
const PLENTY: u64 = 80;

/// What is known from one page to the next.
pub(super) struct Budget {
    /// 0 is no limit.
    limit: usize,
    /// The last page, while all of it was shown: what was on it has to stay.
    last: Option<Arc<Page>>,
    /// None while nothing is folded.
    folding: Option<Folding>,
    /// Whose base labels have changed since the last page: from what, to what.
    renamed: Vec<(String, String)>,
}

/// How much may be on a page.
struct Ceilings {
    /// Series without those that stand for all others.
    room: usize,
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
        Self { limit, last: None, folding: None, renamed: Vec::new() }
    }

    /// Brings a page of containers within the limit.
    pub(super) fn fit(&mut self, page: Page) -> (Page, Figures) {
        let series = page.series();
        let renamed = std::mem::take(&mut self.renamed);
        let ceilings = Ceilings { room: self.limit.saturating_sub(of_others(&page)) };
        if self.folding.is_none() && (self.limit == 0 || series <= ceilings.of(Fold::Errno)) {
            return (page, Figures { series, ..Figures::default() });
        }
        let former = self.folding.take().unwrap_or_else(|| Folding::of(self.last.take().as_deref()));
        let (folding, page, figures) = former.next(page, &renamed, &ceilings);
        self.folding = Some(folding).filter(|folding| !folding.is_idle());
        (page, figures)
    }

    /// Whoever had these base labels goes by others from the next page on.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if self.folding.is_some() && from != to {
            self.renamed.push((from.to_owned(), to.to_owned()));
        }
    }

    /// What is shown now.
    pub(super) fn remember(&mut self, page: &Arc<Page>) {
        self.last = (self.limit > 0 && self.folding.is_none()).then(|| Arc::clone(page));
    }
}

/// Series that stand for all others at most: what is left of each family when every detail is folded. They always have
/// room, so a limit below that doesn't hold.
fn of_others(page: &Page) -> usize {
    page.families.iter().map(|family| family.cost() * fold::folded_at_most(&family.names)).sum()
}

impl Ceilings {
    /// Up to how many series on the page there may be new ones that this has not folded. The coarser they are, the
    /// longer: where details have filled the page, there is still room for whoever comes.
    fn of(&self, fold: Fold) -> usize {
        self.percent(match fold {
            Fold::Errno => 90,
            Fold::Peer => 92,
            Fold::Syscall => 94,
            Fold::Container => 97,
            Fold::Workload => 100,
        })
    }

    /// Below how many series there is room for what was folded.
    fn plenty(&self) -> usize {
        self.percent(PLENTY)
    }

    fn percent(&self, percent: u64) -> usize {
        // A limit may be large enough for a product to be too large.
        (self.room as u64).saturating_mul(percent).div_euclid(100) as usize
    }
}
