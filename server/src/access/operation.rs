//! Which operation each route and method is. Every route of `/v1` is in this one table.

use http::Method;
use model::Operation;

use crate::http::route::Route;

/// The operations of which one is needed. Only an append may be more than one: which, its records decide.
#[must_use]
pub(crate) fn operations(route: &Route<'_>, method: &Method) -> &'static [Operation] {
    use Operation::*;
    match (route, method) {
        // These need a token only where the settings say so.
        (Route::Health | Route::Scrape | Route::OpenApi, _) => &[AccountMetrics],
        (Route::Basins, &Method::GET) => &[ListBasins],
        (Route::Basins, _) => &[CreateBasin],
        (Route::Basin(_), &Method::GET) => &[GetBasinConfig],
        // Which of the two it will be is known only when it is done, so it needs both: see `also`.
        (Route::Basin(_), &Method::PUT) => &[CreateBasin],
        (Route::Basin(_), &Method::PATCH) => &[ReconfigureBasin],
        (Route::Basin(_), _) => &[DeleteBasin],
        (Route::Streams, &Method::GET) => &[ListStreams],
        (Route::Streams, _) => &[CreateStream],
        (Route::Stream(_), &Method::GET) => &[GetStreamConfig],
        (Route::Stream(_), &Method::PUT) => &[CreateStream],
        (Route::Stream(_), &Method::PATCH) => &[ReconfigureStream],
        (Route::Stream(_), _) => &[DeleteStream],
        (Route::Records(_), &Method::POST) | (Route::FirstForm(..), _) => &[Append, Trim, Fence],
        (Route::Lease(_), &Method::GET) => &[CheckTail, Fence],
        (Route::Lease(_), _) => &[Fence],
        (Route::Records(_), _) => &[Read],
        (Route::Tail(_), _) => &[CheckTail],
        (Route::AccessTokens, &Method::GET) => &[ListAccessTokens],
        (Route::AccessTokens, _) => &[IssueAccessToken],
        (Route::AccessToken(_), _) => &[RevokeAccessToken],
        (Route::Usage(None, _), _) => &[AccountMetrics],
        (Route::Usage(Some(_), None), _) => &[BasinMetrics],
        (Route::Usage(Some(_), Some(_)), _) => &[StreamMetrics],
        (Route::Locations, _) => &[ListLocations],
        (Route::DefaultLocation, &Method::GET) => &[GetDefaultLocation],
        (Route::DefaultLocation, _) => &[SetDefaultLocation],
    }
}

/// What an ensure (PUT) needs beside the creation: it may change the configuration of what exists.
#[must_use]
pub(crate) fn also(route: &Route<'_>, method: &Method) -> Option<Operation> {
    match (route, method) {
        (Route::Basin(_), &Method::PUT) => Some(Operation::ReconfigureBasin),
        (Route::Stream(_), &Method::PUT) => Some(Operation::ReconfigureStream),
        _ => None,
    }
}

/// The operation that a request is metered as: of an append, that; of an ensure, the creation that it may be.
#[must_use]
pub(crate) fn metered(route: &Route<'_>, method: &Method) -> Operation {
    operations(route, method)[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_route() {
        let routes = [
            Route::Basins,
            Route::Basin("b"),
            Route::Streams,
            Route::Stream("s"),
            Route::Records("s"),
            Route::Tail("s"),
            Route::AccessTokens,
            Route::AccessToken("t"),
            Route::Usage(None, None),
            Route::Usage(Some("b"), None),
            Route::Usage(Some("b"), Some("s")),
            Route::Locations,
            Route::DefaultLocation,
            Route::Lease("s"),
            Route::FirstForm("b", "s"),
        ];
        let mut seen = Vec::new();
        for route in routes {
            for method in route.allow().split(", ") {
                let method: Method = method.parse().expect("a method");
                seen.extend(operations(&route, &method).iter().copied().chain(also(&route, &method)));
            }
        }
        for op in Operation::ALL {
            assert!(seen.contains(&op), "{op:?}");
        }
    }
}
