//! The simplex solvers. To add one, copy the smallest function here.

use super::{Failure, LpError, Optimum, Side, Solver, Transport};

/// Maximise `Σ gain·x` for `x ≥ 0` under constraints `Σ coefficient·x ≤ bound`.
pub(super) struct Program {
    pub gain: Vec<f64>,
    pub constraints: Vec<(Vec<(usize, f64)>, f64)>,
}

/// Solves the transport and its dual as two linear programs. `solver` is one of the simplex solvers.
pub(super) fn solve(transport: &Transport, solver: Solver) -> Result<Optimum, LpError> {
    let (supplies, edges) = (transport.supply.len(), transport.edges.len());
    let shipped = maximise(&primal(transport), solver, Side::Primal)?;
    let prices = maximise(&dual(transport), solver, Side::Dual)?;
    debug_assert_eq!(shipped.len(), edges);
    let (supply_price, demand_price) = prices.split_at(supplies);
    Ok(Optimum { shipped, supply_price: supply_price.into(), demand_price: demand_price.into() })
}

/// One variable an edge; one constraint a supply, then one a demand.
fn primal(transport: &Transport) -> Program {
    let supplies = transport.supply.len();
    let bounds = transport.supply.iter().chain(&transport.demand);
    let mut constraints: Vec<_> = bounds.map(|&bound| (Vec::new(), bound)).collect();
    for (edge, &(row, column)) in transport.edges.iter().enumerate() {
        constraints[row].0.push((edge, 1.0));
        constraints[supplies + column].0.push((edge, 1.0));
    }
    // `0 ≤ bound` says nothing.
    constraints.retain(|(terms, _)| !terms.is_empty());
    Program { gain: vec![1.0; transport.edges.len()], constraints }
}

/// One variable a supply, then one a demand; one constraint an edge. Minimise becomes maximise, `≥` becomes `≤`.
fn dual(transport: &Transport) -> Program {
    let supplies = transport.supply.len();
    let gain = transport.supply.iter().chain(&transport.demand).map(|cost| -cost).collect();
    let constraint = |&(row, column)| (vec![(row, -1.0), (supplies + column, -1.0)], -1.0);
    Program { gain, constraints: transport.edges.iter().map(constraint).collect() }
}

pub(super) fn maximise(program: &Program, solver: Solver, side: Side) -> Result<Vec<f64>, LpError> {
    if program.constraints.is_empty() {
        // No token is shared: nothing can be shipped and no price is needed.
        return Ok(vec![0.0; program.gain.len()]);
    }
    let solution = match solver {
        #[cfg(feature = "minilp")]
        Solver::Minilp => minilp(program),
        _ => good_lp(program),
    };
    solution.map_err(|(failure, message)| LpError::Solver { solver, side, failure, message })
}

fn good_lp(program: &Program) -> Result<Vec<f64>, (Failure, String)> {
    use good_lp::{Expression, ResolutionError, Solution, SolverModel, constraint, microlp, variable, variables};

    let mut variables = variables!();
    let x: Vec<_> = program.gain.iter().map(|_| variables.add(variable().min(0.0))).collect();
    let sum = |terms: &mut dyn Iterator<Item = (usize, f64)>| {
        let mut sum = Expression::default();
        terms.for_each(|(variable, coefficient)| sum.add_mul(coefficient, x[variable]));
        sum
    };
    let mut model = variables.maximise(sum(&mut program.gain.iter().copied().enumerate())).using(microlp);
    for (terms, bound) in &program.constraints {
        model.add_constraint(constraint::leq(sum(&mut terms.iter().copied()), *bound));
    }
    let solution = model.solve().map_err(|error| {
        let failure = match error {
            ResolutionError::Infeasible => Failure::Infeasible,
            ResolutionError::Unbounded => Failure::Unbounded,
            _ => Failure::Stopped,
        };
        (failure, error.to_string())
    })?;
    Ok(x.into_iter().map(|x| solution.value(x)).collect())
}

#[cfg(feature = "minilp")]
fn minilp(program: &Program) -> Result<Vec<f64>, (Failure, String)> {
    use minilp::{ComparisonOp, Error, OptimizationDirection, Problem};

    let mut problem = Problem::new(OptimizationDirection::Maximize);
    let x: Vec<_> = program.gain.iter().map(|&gain| problem.add_var(gain, (0.0, f64::INFINITY))).collect();
    for (terms, bound) in &program.constraints {
        let sum = terms.iter().map(|&(variable, coefficient)| (x[variable], coefficient));
        problem.add_constraint(sum.collect::<Vec<_>>(), ComparisonOp::Le, *bound);
    }
    let solution = problem.solve().map_err(|error| {
        let failure = match error {
            Error::Infeasible => Failure::Infeasible,
            Error::Unbounded => Failure::Unbounded,
        };
        (failure, error.to_string())
    })?;
    Ok(x.into_iter().map(|x| solution[x]).collect())
}
