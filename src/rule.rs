//! Every selection rule by its name.

use std::fmt;
use std::str::FromStr;

use crate::maximal::Maximal;
use crate::problem::Problem;
use crate::selector::Selector;

/// A selection rule of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// [`Maximal`]: one draft only.
    Maximal,
}

impl Rule {
    /// All rules, in the order in which tables list them.
    pub const ALL: [Rule; 1] = [Rule::Maximal];

    /// The name used on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Maximal => "maximal",
        }
    }

    /// What the rule is, in a few words.
    pub fn description(self) -> &'static str {
        match self {
            Rule::Maximal => "maximal coupling of one draft",
        }
    }

    /// Whether the rule works with `k` drafts: the maximal coupling takes one only.
    pub fn takes(self, k: usize) -> bool {
        self != Rule::Maximal || k == 1
    }

    /// Prepares the rule for a problem. `O(V)` to `O(V log V)`.
    pub fn prepare(self, problem: &Problem) -> Box<dyn Selector + '_> {
        match self {
            Rule::Maximal => Box::new(Maximal::new(problem)),
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
