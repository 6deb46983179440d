//! Every selection rule by its name.

use std::fmt;
use std::str::FromStr;

use crate::kseq::KSeq;
use crate::maximal::Maximal;
use crate::optimal::{DEFAULT_CLASSES, Optimal, OptimalLinear};
use crate::problem::{Laws, Problem};
use crate::recursive::{Recursive, RecursiveDistinct};
use crate::scan::Scan;
use crate::selector::Selector;

/// A selection rule of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// [`Maximal`]: one draft only.
    Maximal,
    /// [`Recursive`]: drafts with replacement.
    Recursive,
    /// [`RecursiveDistinct`]: drafts without replacement.
    RecursiveDistinct,
    /// [`KSeq`].
    KSeq,
    /// [`Optimal`].
    Optimal,
    /// [`OptimalLinear`] with [`DEFAULT_CLASSES`] classes.
    OptimalLinear,
}

impl Rule {
    /// All rules, in the order in which tables list them.
    pub const ALL: [Rule; 6] =
        [Rule::Maximal, Rule::Recursive, Rule::RecursiveDistinct, Rule::KSeq, Rule::Optimal, Rule::OptimalLinear];

    /// The name used on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Maximal => "maximal",
            Rule::Recursive => "rrs",
            Rule::RecursiveDistinct => "rrs-wor",
            Rule::KSeq => "kseq",
            Rule::Optimal => "optimal",
            Rule::OptimalLinear => "optimal-linear",
        }
    }

    /// What the rule is, in a few words.
    pub fn description(self) -> &'static str {
        match self {
            Rule::Maximal => "maximal coupling of one draft",
            Rule::Recursive => "recursive rejection, drafts with replacement",
            Rule::RecursiveDistinct => "recursive rejection, drafts without replacement",
            Rule::KSeq => "k-SEQ, the rule of SpecTr",
            Rule::Optimal => "order-statistic coupling, exact",
            Rule::OptimalLinear => "order-statistic coupling, linear time",
        }
    }

    /// Whether the rule works with `k` drafts: the maximal coupling takes one only.
    pub fn takes(self, k: usize) -> bool {
        self != Rule::Maximal || k == 1
    }

    /// Prepares the rule for a problem. `O(V)` to `O(V log V)`.
    pub fn prepare(self, problem: &Problem) -> Box<dyn Selector + Send + Sync + '_> {
        self.prepare_laws(problem, problem.k())
    }

    /// Prepares the rule from two rows of logits. `O(classes)` to `O(V log V)`; [`Rule::Optimal`] attains the optimum
    /// over ratio classes, as [`Scan::optimal_exact`] does.
    pub fn prepare_scan<'a>(self, scan: &Scan<'a>) -> Box<dyn Selector + Send + Sync + 'a> {
        match self {
            Rule::Maximal => Box::new(scan.maximal()),
            Rule::Recursive => Box::new(scan.recursive()),
            Rule::RecursiveDistinct => Box::new(scan.recursive_distinct()),
            Rule::KSeq => Box::new(scan.kseq()),
            Rule::Optimal => Box::new(scan.optimal_exact()),
            Rule::OptimalLinear => Box::new(scan.optimal()),
        }
    }

    /// Prepares the rule for `k` drafts of any laws.
    pub(crate) fn prepare_laws<'a, L: Laws + Copy + Send + Sync + 'a>(
        self,
        laws: L,
        k: usize,
    ) -> Box<dyn Selector + Send + Sync + 'a> {
        match self {
            Rule::Maximal => Box::new(Maximal::new(laws)),
            Rule::Recursive => Box::new(Recursive::with_laws(laws, k)),
            Rule::RecursiveDistinct => Box::new(RecursiveDistinct::with_laws(laws, k)),
            Rule::KSeq => Box::new(KSeq::with_laws(laws, k)),
            Rule::Optimal => Box::new(Optimal::with_laws(laws, k)),
            Rule::OptimalLinear => Box::new(OptimalLinear::with_laws(laws, k, DEFAULT_CLASSES)),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No rule has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRule {
    name: String,
}

impl fmt::Display for UnknownRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Rule::ALL.iter().map(|rule| rule.name()).collect();
        write!(f, "no rule is called '{}'; there are {}", self.name, names.join(", "))
    }
}

impl std::error::Error for UnknownRule {}

impl FromStr for Rule {
    type Err = UnknownRule;

    fn from_str(name: &str) -> Result<Self, UnknownRule> {
        Rule::ALL.into_iter().find(|rule| rule.name() == name).ok_or_else(|| UnknownRule { name: name.into() })
    }
}
