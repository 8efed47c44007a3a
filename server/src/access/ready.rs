//! Nobody is let in before the tokens of the log are known and there is one to manage them: front 0 sees to that, the
//! others and the main thread wait for it.

use std::sync::mpsc;

use tokio::sync::watch;

use super::Gate;
use super::root;
use super::secret::Secret;
use crate::store::Store;

/// What the main thread is told: the secret of a root token that was made, or why the server cannot start.
pub(crate) type Prepared = Result<Option<Secret>, String>;

/// A front's part in it.
pub(crate) enum Ready {
    /// Prepares.
    First(watch::Sender<bool>, mpsc::Sender<Prepared>),
    /// Waits.
    Other(watch::Receiver<bool>),
}

impl Ready {
    /// The parts of so many fronts, and the end that the main thread listens to.
    #[must_use]
    pub(crate) fn of_fronts(count: usize) -> (Vec<Self>, mpsc::Receiver<Prepared>) {
        let (ready, others) = watch::channel(false);
        let (prepared, told) = mpsc::channel();
        let others = (1..count).map(|_| Self::Other(others.clone()));
        (std::iter::once(Self::First(ready, prepared)).chain(others).collect(), told)
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
    pub(crate) async fn pass(self, store: &Store, gate: &Gate) -> bool {
        match self {
            Self::First(ready, prepared) => {
                let result = root::prepare(store, gate).await;
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
