//! The program as a maximum flow: source → rows → tokens → sink.

use petgraph::algo::dinics;
use petgraph::graph::{DiGraph, EdgeIndex, NodeIndex};

use super::{Optimum, Transport};

/// The capacity of a probability of 1.
///
/// Capacities are integers, so that the flow is exact: each probability is rounded to a multiple of 2⁻⁶², which
/// leaves every f64 from 2⁻¹⁰ up as it is and moves the optimum by at most 2⁻⁶³ a row and token.
const UNIT: f64 = (1u64 << 62) as f64;

/// More than any row holds.
const UNLIMITED: u64 = 1 << 63;

fn capacity(probability: f64) -> u64 {
    (probability * UNIT).round() as u64
}

/// Finds a maximum flow, and the minimum cut for the prices.
///
/// The tokens that the residual network still reaches are `H`: their columns are full, price 1. The rows not inside
/// `H` have all their mass shipped, price 1.
pub(super) fn solve(transport: &Transport) -> Optimum {
    let Transport { supply, demand, edges } = transport;
    let mut network =
        DiGraph::with_capacity(supply.len() + demand.len() + 2, supply.len() + demand.len() + edges.len());
    let (source, sink) = (network.add_node(()), network.add_node(()));
    // The edges of the program come first: edge `i` has the flow `flows[i]`.
    let rows: Vec<NodeIndex> = supply.iter().map(|_| network.add_node(())).collect();
    let columns: Vec<NodeIndex> = demand.iter().map(|_| network.add_node(())).collect();
    for &(row, column) in edges {
        network.add_edge(rows[row], columns[column], UNLIMITED);
    }
    let sources: Vec<EdgeIndex> =
        rows.iter().zip(supply).map(|(&row, &mass)| network.add_edge(source, row, capacity(mass))).collect();
    for (&column, &mass) in columns.iter().zip(demand) {
        network.add_edge(column, sink, capacity(mass));
    }
    let (_, flows) = dinics(&network, source, sink);

    let unsent = sources.iter().map(|&edge| network[edge] > flows[edge.index()]).collect();
    let inside = reachable(transport, unsent, &flows);
    let mut supply_price = vec![0.0; supply.len()];
    for &(row, column) in edges {
        if !inside[column] {
            supply_price[row] = 1.0;
        }
    }
    Optimum {
        shipped: flows[..edges.len()].iter().map(|&flow| flow as f64 / UNIT).collect(),
        supply_price,
        demand_price: inside.into_iter().map(|inside| if inside { 1.0 } else { 0.0 }).collect(),
    }
}

/// The columns that a row with mass left reaches: along any edge forwards, and backwards along one that carries flow.
fn reachable(transport: &Transport, mut rows: Vec<bool>, flows: &[u64]) -> Vec<bool> {
    let mut columns = vec![false; transport.demand.len()];
    // Each pass but the last adds a column, so there are at most as many passes as columns, and one.
    loop {
        let mut grown = false;
        for &(row, column) in &transport.edges {
            if rows[row] && !columns[column] {
                columns[column] = true;
                grown = true;
            }
        }
        if !grown {
            return columns;
        }
        for (&(row, column), &flow) in transport.edges.iter().zip(flows) {
            if columns[column] && flow > 0 {
                rows[row] = true;
            }
        }
    }
}
