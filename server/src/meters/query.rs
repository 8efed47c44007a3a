//! What is asked of the meters, and the answer as it is added up.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use api::{ApiError, Code};
use model::BasinName;

use super::keeper::Key;
use super::meter::{Meter, Scope};

/// What somebody wants to know.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// Whose numbers; `None` for all basins.
    pub(crate) scope: Option<Scope>,
    /// Which numbers.
    pub(crate) wanted: Wanted,
    /// From this second since the Unix epoch on.
    pub(crate) start_s: u32,
    /// Up to this second, exclusive.
    pub(crate) end_s: u32,
    /// The width of a point in seconds.
    pub(crate) step_s: u32,
}

/// Which numbers.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// These meters.
    Meters(Vec<Meter>),
    /// The names of the basins that have any.
    Basins,
}

/// An answer.
#[derive(Debug, Default)]
pub(crate) struct Series {
    points: BTreeMap<Meter, BTreeMap<u32, u64>>,
    points_count: usize,
    basins: BTreeSet<BasinName>,
}

impl Question {
    /// The minutes that begin in its range.
    #[must_use]
    pub(crate) const fn minutes(&self) -> Range<u32> {
        self.start_s.div_ceil(60)..self.end_s.div_ceil(60)
    }
}

impl Series {
    /// Adds a number, if it was asked for.
    ///
    /// # Errors
    /// 422 when the answer gets too long.
    pub(crate) fn add(
        &mut self,
        question: &Question,
        (minute, scope, meter): &Key,
        value: u64,
    ) -> Result<(), ApiError> {
        if question.scope.as_ref().is_some_and(|wanted| wanted != scope) {
            return Ok(());
        }
        match (&question.wanted, scope) {
            (Wanted::Basins, Scope::Account) => {}
            // Nobody has to do anything for this one.
            (Wanted::Basins, Scope::Basin(_)) if *meter == Meter::STORED => {}
            (Wanted::Basins, Scope::Basin(name)) => {
                if !self.basins.contains(name) {
                    self.count_point()?;
                    self.basins.insert(name.clone());
                }
            }
            (Wanted::Meters(wanted), _) if wanted.contains(meter) => {
                let at_s = minute * 60 / question.step_s * question.step_s;
                let points = self.points.entry(*meter).or_default();
                if let Some(point) = points.get_mut(&at_s) {
                    *point = meter.together(*point, value);
                } else {
                    points.insert(at_s, value);
                    self.count_point()?;
                }
            }
            (Wanted::Meters(_), _) => {}
        }
        Ok(())
    }

    fn count_point(&mut self) -> Result<(), ApiError> {
        self.points_count += 1;
        if self.points_count > POINTS_MAX {
            let why = "the answer would have more than 200000 points: ask for a shorter range or a longer interval";
            return Err(ApiError::new(Code::Invalid, why));
        }
        Ok(())
    }

    /// The points of a meter, in order.
    #[must_use]
    pub(crate) fn points(&self, meter: Meter) -> Vec<(u32, u64)> {
        self.points.get(&meter).into_iter().flatten().map(|(at_s, n)| (*at_s, *n)).collect()
    }

    /// The names that were asked for, in order.
    #[must_use]
    pub(crate) fn into_basins(self) -> Vec<BasinName> {
        self.basins.into_iter().collect()
    }
}

/// Points of an answer; its text is some megabytes then.
const POINTS_MAX: usize = 200_000;
