//! Nobody is let in before the tokens of the log are known, there is one to manage them, and all that the init file names is
//! there: front 0 sees to that, the others and the main thread wait for it.

use std::sync::mpsc;

use tokio::sync::watch;

use super::Gate;
use super::root;
use super::secret::Secret;
use crate::init::{Applied, InitFile};
use crate::router::Router;
use crate::store::Store;

/// What was made before anybody is let in.
#[derive(Default)]
pub(crate) struct Made {
    /// The secret of a root token.
    pub(crate) root: Option<Secret>,
    /// What came of the init file.
    pub(crate) applied: Option<Applied>,
}

/// What the main thread is told: what was made, or why the server cannot start.
pub(crate) type Prepared = Result<Made, String>;

/// A front's part in it.
pub(crate) enum Ready {
    /// Prepares.
    First(watch::Sender<bool>, mpsc::Sender<Prepared>, Option<InitFile>),
    /// Waits.
    Other(watch::Receiver<bool>),
}

impl Ready {
    /// The parts of so many fronts, and the end that the main thread listens to.
    #[must_use]
    pub(crate) fn of_fronts(count: usize, init: Option<InitFile>) -> (Vec<Self>, mpsc::Receiver<Prepared>) {
        let (ready, others) = watch::channel(false);
        let (prepared, told) = mpsc::channel();
        let others = (1..count).map(|_| Self::Other(others.clone()));
        (std::iter::once(Self::First(ready, prepared, init)).chain(others).collect(), told)
    }

    /// Whether it is the first front's.
    #[must_use]
    pub(crate) const fn is_first(&self) -> bool {
        match self {
            Self::First(..) => true,
            Self::Other(_) => false,
        }
    }

    /// Returns when connections may be accepted; false when the process ends instead.
    pub(crate) async fn pass(self, store: &Store, gate: &Gate, router: &Router) -> bool {
        match self {
            Self::First(ready, prepared, init) => {
                let result = prepare(store, gate, router, init).await;
                let is_ready = result.is_ok();
                if is_ready {
                    ready.send_replace(true);
                }
                // The main thread listens until it has heard this, or ends the process.
                let _ = prepared.send(result);
                is_ready
            }
            Self::Other(mut ready) => ready.wait_for(|is_ready| *is_ready).await.is_ok(),
        }
    }
}

async fn prepare(store: &Store, gate: &Gate, router: &Router, init: Option<InitFile>) -> Prepared {
    // First of all: its answer says that all of the log was shown.
    let root = root::prepare(store, gate).await?;
    let applied = match init {
        Some(init) => Some(init.apply(store, router).await?),
        None => None,
    };
    Ok(Made { root, applied })
}
