//! The init file: basins and streams that shall be there before anybody is answered. It is S2's resource spec, the file
//! that the S2 CLI's `apply` takes.
//!
//! Promises: each start asks for every basin and stream of the file as a PUT would, so a start that finds all of them as
//! they shall be changes nothing, and what the file does not name is left alone. A start that cannot make one is refused.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::json::{self, BasinResource, Resources, StreamResource};
use engine::event::{BasinInfo, Provision};
use model::{Failure, Rejected};
use tokio::time::{Instant, sleep};

use crate::resource::basins::ensure_basin;
use crate::resource::streams::{ensure_stream, join_all};
use crate::router::Router;
use crate::store::Store;

/// A file that was read and found to be good.
#[derive(Debug)]
pub(crate) struct InitFile {
    path: PathBuf,
    resources: Resources,
}

/// What a start made of its init file.
#[derive(Debug)]
pub(crate) struct Applied {
    path: PathBuf,
    created: usize,
    updated: usize,
    unchanged: usize,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, created, updated, unchanged } = self;
        write!(f, "init file {}: {created} made, {updated} changed, {unchanged} as they were", path.display())
    }
}

impl Applied {
    fn count(&mut self, provision: Provision) {
        match provision {
            Provision::Created => self.created += 1,
            Provision::Updated => self.updated += 1,
            Provision::Noop => self.unchanged += 1,
        }
    }
}

impl InitFile {
    /// Reads the file; none when the path is empty.
    ///
    /// # Errors
    /// When it cannot be read or is no resource spec. The text is for the operator.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, String> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|e| format!("cannot read the init file {}: {e}", path.display()))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("the init file {} is larger than {FILE_BYTES_MAX} bytes", path.display()));
        }
        let resources = json::parse_resources(&bytes)
            .map_err(|why| format!("the init file {} is not valid: {why}", path.display()))?;
        Ok(Some(Self { path: path.to_owned(), resources }))
    }

    /// Makes everything as the file says, in its order, basins before their streams.
    ///
    /// # Errors
    /// What could not be made, and why. The text is for the operator.
    pub(crate) async fn apply(self, store: &Store, router: &Router) -> Result<Applied, String> {
        let Self { path, resources } = self;
        let mut applied = Applied { path, created: 0, updated: 0, unchanged: 0 };
        for basin in resources.basins {
            if let Err((what, why)) = apply_basin(store, router, basin, &mut applied).await {
                return Err(format!("cannot make {what} of the init file {}: {why}", applied.path.display()));
            }
        }
        Ok(applied)
    }
}

/// What could not be made, and why.
type Refused = (String, Failure);

async fn apply_basin(
    store: &Store,
    router: &Router,
    basin: BasinResource,
    applied: &mut Applied,
) -> Result<(), Refused> {
    let BasinResource { name, config, streams } = basin;
    let ensured = once_deleted(|| ensure_basin(store, name.clone(), config.clone())).await;
    let (basin, provision) = ensured.map_err(|why| (format!("basin `{name}`"), why))?;
    applied.count(provision);
    for some in streams.chunks(STREAMS_AT_ONCE_MAX) {
        let asked = some.iter().map(|stream| Box::pin(apply_stream(store, router, &basin, stream))).collect();
        for provision in join_all(asked).await {
            applied.count(provision?);
        }
    }
    Ok(())
}

async fn apply_stream(
    store: &Store,
    router: &Router,
    basin: &BasinInfo,
    stream: &StreamResource,
) -> Result<Provision, Refused> {
    let StreamResource { name, config } = stream;
    match once_deleted(|| ensure_stream(store, router, basin, name.clone(), config)).await {
        Ok((_, provision)) => Ok(provision),
        Err(why) => Err((format!("stream `{name}` of basin `{}`", basin.name), why)),
    }
}

/// Asks, and asks again while what has the name is on its way out: a deletion of the last run may still go on.
async fn once_deleted<T>(ask: impl AsyncFn() -> Result<T, Failure>) -> Result<T, Failure> {
    let until = Instant::now() + DELETION_TIME_MAX;
    loop {
        match ask().await {
            Err(Failure::Rejected(Rejected::BasinDeleting(_) | Rejected::StreamDeleting(..)))
                if Instant::now() < until =>
            {
                sleep(DELETION_LOOK).await;
            }
            answered => return answered,
        }
    }
}

/// Largest init file; more is refused.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Streams that are asked for at once; the others come after them.
const STREAMS_AT_ONCE_MAX: usize = 64;
/// What is being deleted gets this long to be gone; then the start is refused.
const DELETION_TIME_MAX: Duration = Duration::from_secs(10);
/// How often it is looked at.
const DELETION_LOOK: Duration = Duration::from_millis(50);
