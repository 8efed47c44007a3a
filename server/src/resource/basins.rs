//! Basins: list, create, ensure, reconfigure, delete.

use std::sync::Arc;

use api::json::{CreateBasin, EnsureBasin};
use api::query::ListQuery;
use api::{ApiError, Code, json};
use engine::event::{BasinInfo, Op, Provision, Reply};
use model::config::BasinReconfiguration;
use model::token::{On, Operation};
use model::{BasinConfig, BasinName, Failure, NamePrefix, Rejected};

use super::{Caller, request_key};
use crate::access::Access;
use crate::access::page::{Shown, narrow};
use crate::router::METADATA_SHARD;
use crate::store::{Store, unexpected};

impl Caller<'_> {
    /// A page of those in scope; whether there are more.
    pub(crate) fn list_basins(&self, page: ListQuery) -> (Vec<Arc<BasinInfo>>, bool) {
        let of = |name: &str| NamePrefix::of_basin(name).expect("a scope has names of basins");
        let page = match self.access {
            Access::Open => Shown::Page(page),
            Access::Token(token) => narrow(token.scope.basins.as_ref(), page, of),
        };
        let basins = self.front.router.basins();
        match page {
            Shown::Nothing => (vec![], false),
            Shown::Page(page) => basins.list(&page.prefix, &page.start_after, page.limit),
            Shown::One(name) => {
                let name = BasinName::try_from(name.as_str()).expect("a scope has names of basins");
                (basins.get(&name).into_iter().collect(), false)
            }
        }
    }

    /// Creates a basin that is named in a body. The same `token` with the same configuration creates it once.
    ///
    /// # Errors
    /// As the spec says; so do all others here.
    pub(crate) async fn create_basin(
        &self,
        wanted: CreateBasin,
        token: Option<&[u8]>,
    ) -> Result<(BasinInfo, Provision), ApiError> {
        self.access.permit(Operation::CreateBasin, On { basin: Some(&wanted.basin), ..On::default() })?;
        self.check_location(wanted.location.as_deref())?;
        let request_key = token.map(|token| request_key(token, &json::basin_config(&wanted.config)));
        self.ask_basin(Op::CreateBasin { basin: wanted.basin, config: wanted.config, request_key }).await
    }

    /// Creates a basin, or gives it this configuration.
    pub(crate) async fn ensure_basin(
        &self,
        basin: BasinName,
        wanted: EnsureBasin,
    ) -> Result<(BasinInfo, Provision), ApiError> {
        self.check_location(wanted.location.as_deref())?;
        Ok(ensure_basin(&self.front.store, basin, wanted.config).await?)
    }

    /// Changes a basin's configuration.
    pub(crate) async fn reconfigure_basin(
        &self,
        basin: BasinName,
        change: BasinReconfiguration,
    ) -> Result<BasinInfo, ApiError> {
        self.ask_basin(Op::ReconfigureBasin { basin, change }).await.map(|(basin, _)| basin)
    }

    /// Begins a basin's deletion.
    pub(crate) async fn delete_basin(&self, basin: BasinName) -> Result<(), ApiError> {
        self.front.store.ask(METADATA_SHARD, Op::DeleteBasin { basin }).await?;
        Ok(())
    }

    /// Refuses another location than the one that there is.
    pub(crate) fn check_location(&self, wanted: Option<&str>) -> Result<(), ApiError> {
        match wanted {
            Some(wanted) if *wanted != *self.front.location => {
                let why = format!("location `{wanted}` is not served here: `{}` is", self.front.location);
                Err(ApiError::new(Code::Invalid, why))
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn ask_basin(&self, op: Op) -> Result<(BasinInfo, Provision), ApiError> {
        Ok(provisioned(self.front.store.ask(METADATA_SHARD, op).await?))
    }
}

/// Makes a basin, or gives one that exists this configuration.
///
/// # Errors
/// What the shard says.
pub(crate) async fn ensure_basin(
    store: &Store,
    basin: BasinName,
    config: BasinConfig,
) -> Result<(BasinInfo, Provision), Failure> {
    Ok(provisioned(store.ask(METADATA_SHARD, Op::EnsureBasin { basin, config }).await?))
}

/// Makes a basin that makes its streams when they are appended to, unless there is one of the name by now.
///
/// # Errors
/// What the shard says.
pub(crate) async fn create_first_basin(store: &Store, basin: BasinName) -> Result<(), Failure> {
    let config = BasinConfig { create_stream_on_append: true, ..BasinConfig::default() };
    match store.ask(METADATA_SHARD, Op::CreateBasin { basin, config, request_key: None }).await {
        Ok(_) | Err(Failure::Rejected(Rejected::BasinExists(_))) => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn provisioned(reply: Reply) -> (BasinInfo, Provision) {
    let Reply::Basin(basin, provision) = reply else { unexpected("a basin request", &reply) };
    (basin, provision)
}
