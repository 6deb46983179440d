//! Markov coding games: a message carried in the actions of an agent.
//!
//! An agent walks through a world; a receiver sees what it does and wants to know a message. Sokota et al. 2022 (arXiv
//! 2107.08295) couple, at every step, what the receiver still believes about the message with the law of the next action.
//! A minimum-entropy coupling makes the action say as much as it can, while its law stays that of the policy:
//!
//! ```text
//! belief b over the code T, at first its law
//! at each step in state s:  C = greedy coupling of b and π(·|s)
//!     sender:    a ~ C(·|t)                       Σ_t b(t)·C(a|t) = π(a|s): the policy is played exactly
//!     receiver:  b = C(·|a)
//! ```
//!
//! With a bottleneck (Ebrahimi et al. 2024, arXiv 2410.21666) what is sent is a code of at most `R` bits of the message
//! ([`Encoder`]), and the receiver guesses the likeliest message under what it believes about the code. The price of a
//! message is reward: a policy that acts at random more has more room for one.

use std::fmt;

use rand::{Rng, RngExt};

use super::encoder::Encoder;
use super::greedy::greedy;
use crate::pmf::{Pmf, Token};

/// A grid with a goal. The agent starts in one corner and the goal is in the other; every step before the goal is reached
/// costs 1, and with probability `slip` the agent goes in a random direction instead of its own. Walls stop it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GridWorld {
    size: usize,
    horizon: usize,
    slip: f64,
}

/// The number of actions: up, right, down, left.
pub const ACTIONS: usize = 4;

/// Why a world or a policy was refused.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum GameError {
    /// The grid has fewer than 2 or more than 64 rows.
    Size {
        /// The number given.
        size: usize,
    },
    /// The horizon is 0 or above 10,000 steps.
    Horizon {
        /// The number given.
        horizon: usize,
    },
    /// The probability to slip is no probability.
    Slip {
        /// The number given.
        slip: f64,
    },
    /// The temperature is not a positive number.
    Temperature {
        /// The number given.
        temperature: f64,
    },
}

impl fmt::Display for GameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GameError::Size { size } => write!(f, "a grid of {size} rows; there must be 2 to 64"),
            GameError::Horizon { horizon } => write!(f, "a horizon of {horizon} steps; there must be 1 to 10000"),
            GameError::Slip { slip } => write!(f, "the probability to slip is {slip}; it must be in [0, 1]"),
            GameError::Temperature { temperature } => {
                write!(f, "the temperature is {temperature}; it must be a positive number")
            }
        }
    }
}

impl std::error::Error for GameError {}

impl GridWorld {
    /// A world of `size × size` cells in which the agent has `horizon` steps.
    ///
    /// # Errors
    /// A number is out of range.
    pub fn new(size: usize, horizon: usize, slip: f64) -> Result<Self, GameError> {
        if !(2..=64).contains(&size) {
            return Err(GameError::Size { size });
        }
        if !(1..=10_000).contains(&horizon) {
            return Err(GameError::Horizon { horizon });
        }
        if !(0.0..=1.0).contains(&slip) {
            return Err(GameError::Slip { slip });
        }
        Ok(GridWorld { size, horizon, slip })
    }

    /// The number of cells.
    pub fn states(&self) -> usize {
        self.size * self.size
    }

    /// The number of steps of an episode, if the goal is not reached before.
    pub fn horizon(&self) -> usize {
        self.horizon
    }

    fn goal(&self) -> usize {
        self.states() - 1
    }

    /// Where a step in a direction leads.
    fn step(&self, state: usize, action: usize) -> usize {
        let (row, column) = (state / self.size, state % self.size);
        let last = self.size - 1;
        let (row, column) = match action {
            0 => (row.saturating_sub(1), column),
            1 => (row, (column + 1).min(last)),
            2 => ((row + 1).min(last), column),
            _ => (row, column.saturating_sub(1)),
        };
        row * self.size + column
    }

    /// The probability of each direction that the agent may go when it takes an action.
    fn directions(&self, action: usize) -> [f64; ACTIONS] {
        let mut directions = [self.slip / ACTIONS as f64; ACTIONS];
        directions[action] += 1.0 - self.slip;
        directions
    }
}

/// A policy for each step of an episode.
#[derive(Clone, Debug)]
pub struct Policy {
    world: GridWorld,
    /// The law of the action by step and state.
    laws: Vec<Pmf>,
    /// The expected reward from the start, and its standard deviation.
    value: f64,
    deviation: f64,
}

impl Policy {
    /// The policy of most reward plus `temperature` times entropy (in nats), by soft value iteration: `π ∝ e^(Q/τ)`.
    /// Above a certain temperature the agent stays away from the goal, which would end its randomness.
    ///
    /// `O(horizon · states)`.
    ///
    /// # Errors
    /// The temperature is not a positive number.
    pub fn soft(world: GridWorld, temperature: f64) -> Result<Self, GameError> {
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(GameError::Temperature { temperature });
        }
        let states = world.states();
        // What is to come after the step: with the entropy, which the policy looks at; without; and that squared.
        let (mut soft, mut plain, mut squared) = (vec![0.0; states], vec![0.0; states], vec![0.0; states]);
        let mut laws = Vec::with_capacity(world.horizon * states);
        for _ in 0..world.horizon {
            let (mut soft_before, mut plain_before, mut squared_before) =
                (vec![0.0; states], vec![0.0; states], vec![0.0; states]);
            // Backwards in time and in states: the whole is turned round at the end.
            for state in (0..states).rev() {
                let after = |values: &[f64], action: usize| {
                    let directions = world.directions(action).into_iter().enumerate();
                    directions.map(|(to, share)| share * values[world.step(state, to)]).sum::<f64>()
                };
                if state == world.goal() {
                    laws.push(Pmf::uniform(ACTIONS).expect("there are actions"));
                    continue;
                }
                let q: [f64; ACTIONS] = std::array::from_fn(|action| (after(&soft, action) - 1.0) / temperature);
                let most = q.into_iter().fold(f64::NEG_INFINITY, f64::max);
                let weights = q.map(|q| (q - most).exp());
                soft_before[state] = temperature * (most + weights.iter().sum::<f64>().ln());
                let law = Pmf::from_weights(weights).expect("the weight of the best action is 1");
                for (action, share) in law.as_slice().iter().enumerate() {
                    let (mean, square) = (after(&plain, action), after(&squared, action));
                    plain_before[state] += share * (mean - 1.0);
                    squared_before[state] += share * (square - 2.0 * mean + 1.0);
                }
                laws.push(law);
            }
            (soft, plain, squared) = (soft_before, plain_before, squared_before);
        }
        laws.reverse();
        let deviation = (squared[0] - plain[0] * plain[0]).max(0.0).sqrt();
        Ok(Policy { world, laws, value: plain[0], deviation })
    }

    /// The world it is for.
    pub fn world(&self) -> GridWorld {
        self.world
    }

    /// The law of the action in a state, `step` steps after the start.
    ///
    /// # Panics
    /// If the step is not before the horizon, or there is no such state.
    pub fn law(&self, step: usize, state: usize) -> &Pmf {
        assert!(step < self.world.horizon && state < self.world.states(), "step {step}, state {state}");
        &self.laws[step * self.world.states() + state]
    }

    /// The expected reward of an episode, whatever message it carries.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The standard deviation of the reward of an episode.
    pub fn deviation(&self) -> f64 {
        self.deviation
    }
}

/// The receiver had all but ruled out the code that was sent, and rounding took what was left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostCode {
    /// The code.
    pub code: Token,
}

impl fmt::Display for LostCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {} was sent, and its probability was lost in rounding", self.code)
    }
}

impl std::error::Error for LostCode {}

/// How an episode went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Episode {
    /// Minus the number of steps.
    pub reward: f64,
    /// The message that was sent.
    pub message: Token,
    /// What the receiver took it for.
    pub decoded: Token,
    /// The number of steps.
    pub steps: usize,
}

/// Plays one episode: draws a message by the encoder's source law, encodes it, carries the code in the actions, decodes.
///
/// # Errors
/// [`LostCode`], which has the probability of a rounding.
pub fn play(policy: &Policy, encoder: &Encoder, rng: &mut (impl Rng + ?Sized)) -> Result<Episode, LostCode> {
    let world = policy.world();
    let joint = encoder.joint();
    let source = Pmf::new(joint.marginal(0)).expect("the marginal of a coupling adds up to 1");
    let message = source.pick(rng.random());
    let of_message = joint.given_first(message).expect("the message was drawn");
    let code = of_message.pick(rng.random());
    let mut belief = Pmf::new(joint.marginal(1)).expect("the marginal of a coupling adds up to 1");
    let (mut state, mut steps) = (0, 0);
    while steps < world.horizon() && state != world.goal() {
        let actions = policy.law(steps, state);
        let coupling = greedy(&[&belief, actions]).expect("two marginals");
        let of_code = coupling.given_first(code).ok_or(LostCode { code })?;
        let action = of_code.pick(rng.random());
        belief = coupling.given_second(action).expect("the action was taken");
        let way = Pmf::new(world.directions(action as usize)).expect("the directions' shares add up to 1");
        state = world.step(state, way.pick(rng.random()) as usize);
        steps += 1;
    }
    Ok(Episode { reward: -(steps as f64), message, decoded: decode(encoder, &belief), steps })
}

/// The likeliest message under a belief about the code: the first of several.
fn decode(encoder: &Encoder, belief: &Pmf) -> Token {
    let joint = encoder.joint();
    let code_law = joint.marginal(1);
    let mut scores = vec![0.0; joint.vocab(0)];
    for (symbols, mass) in joint.cells() {
        let code = symbols[1] as usize;
        scores[symbols[0] as usize] += belief.as_slice()[code] * mass / code_law[code];
    }
    let mut best = 0;
    for (message, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = message;
        }
    }
    best as Token
}
