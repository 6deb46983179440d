//! The CUDA C++ sources that are part of the crate, joined into one text for the compiler.

/// A file of `kernels/`: its name and its text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File {
    pub name: &'static str,
    pub text: &'static str,
}

/// What other files include.
const HEADERS: [File; 18] = [
    File { name: "row.cuh", text: include_str!("kernels/row.cuh") },
    File { name: "coins.cuh", text: include_str!("kernels/coins.cuh") },
    File { name: "batch.cuh", text: include_str!("kernels/batch.cuh") },
    File { name: "cluster.cuh", text: include_str!("kernels/cluster.cuh") },
    File { name: "draw.cuh", text: include_str!("kernels/draw.cuh") },
    File { name: "rows.cuh", text: include_str!("kernels/rows.cuh") },
    File { name: "count.cuh", text: include_str!("kernels/count.cuh") },
    File { name: "pairs.cuh", text: include_str!("kernels/pairs.cuh") },
    File { name: "rest.cuh", text: include_str!("kernels/rest.cuh") },
    File { name: "team.cuh", text: include_str!("kernels/team.cuh") },
    File { name: "classes.cuh", text: include_str!("kernels/classes.cuh") },
    File { name: "layout.cuh", text: include_str!("kernels/layout.cuh") },
    File { name: "plan.cuh", text: include_str!("kernels/plan.cuh") },
    File { name: "exchange.cuh", text: include_str!("kernels/exchange.cuh") },
    File { name: "path.cuh", text: include_str!("kernels/path.cuh") },
    File { name: "spread.cuh", text: include_str!("kernels/spread.cuh") },
    File { name: "trees.cuh", text: include_str!("kernels/trees.cuh") },
    File { name: "filter.cuh", text: include_str!("kernels/filter.cuh") },
];

/// Files with kernels in them: each is compiled by itself.
pub(crate) const KERNELS: [File; 11] = [PROBE, SELECT, COUNT, DECIDE, DRAW, NODES, PATH, SPREAD, NEXT, FILTER, DECODER];

pub(crate) const PROBE: File = File { name: "probe.cu", text: include_str!("kernels/probe.cu") };

pub(crate) const SELECT: File = File { name: "select.cu", text: include_str!("kernels/select.cu") };

pub(crate) const COUNT: File = File { name: "count.cu", text: include_str!("kernels/count.cu") };

pub(crate) const DECIDE: File = File { name: "decide.cu", text: include_str!("kernels/decide.cu") };

pub(crate) const DRAW: File = File { name: "draw.cu", text: include_str!("kernels/draw.cu") };

pub(crate) const NODES: File = File { name: "nodes.cu", text: include_str!("kernels/nodes.cu") };

pub(crate) const PATH: File = File { name: "path.cu", text: include_str!("kernels/path.cu") };

pub(crate) const SPREAD: File = File { name: "spread.cu", text: include_str!("kernels/spread.cu") };

pub(crate) const NEXT: File = File { name: "next.cu", text: include_str!("kernels/next.cu") };

pub(crate) const FILTER: File = File { name: "filter.cu", text: include_str!("kernels/filter.cu") };

pub(crate) const DECODER: File = File { name: "decoder.cu", text: include_str!("kernels/decoder.cu") };

/// The definitions that a file is compiled with, every combination that anything asks for.
pub(crate) fn variants(file: File) -> Vec<Vec<&'static str>> {
    if [PROBE, DECIDE].iter().any(|of_none| of_none.name == file.name) {
        return vec![Vec::new()];
    }
    if [PATH, SPREAD, NEXT, DECODER].iter().any(|of_format| of_format.name == file.name) {
        return FORMATS.iter().map(|format| vec![*format]).collect();
    }
    if file.name == FILTER.name {
        let both = |format| [true, false].map(|resident| filter_defines(format, resident).to_vec());
        return FORMATS.into_iter().flat_map(both).collect();
    }
    let mut variants = Vec::new();
    for format in FORMATS {
        for shaped in [false, true] {
            for resident in [true, false] {
                variants.push(rows_defines(format, shaped, resident).to_vec());
            }
        }
    }
    variants
}

/// The number formats, as `DTYPE`s.
const FORMATS: [&str; 3] = ["DTYPE=0", "DTYPE=1", "DTYPE=2"];

/// The definitions that `filter.cu` asks for.
pub(crate) fn filter_defines(format: &'static str, resident: bool) -> [&'static str; 2] {
    [format, if resident { "RESIDENT=1" } else { "RESIDENT=0" }]
}

/// The definitions that `rows.cuh` asks for.
pub(crate) fn rows_defines(format: &'static str, shaped: bool, resident: bool) -> [&'static str; 3] {
    [format, if shaped { "SHAPED=1" } else { "SHAPED=0" }, if resident { "RESIDENT=1" } else { "RESIDENT=0" }]
}

/// The text of a file of kernels with every `#include "…"` replaced by the file it names, at its first mention.
///
/// The run-time compiler then needs no file system, and a hash of the text is a hash of everything in it.
///
/// # Panics
/// If a file includes one that is not part of the crate; a test expands them all.
pub(crate) fn expanded(file: File) -> String {
    let mut text = String::new();
    expand(file, &mut Vec::new(), &mut text);
    text
}

fn expand(file: File, included: &mut Vec<&'static str>, text: &mut String) {
    for (number, line) in file.text.lines().enumerate() {
        let Some(name) = line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"')) else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        let header = HEADERS.iter().find(|header| header.name == name);
        let header = *header.unwrap_or_else(|| panic!("{} includes {name}, which is no part of the crate", file.name));
        if !included.contains(&header.name) {
            included.push(header.name);
            text.push_str(&format!("#line 1 \"{}\"\n", header.name));
            expand(header, included, text);
            text.push_str(&format!("#line {} \"{}\"\n", number + 2, file.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_expands_and_includes_a_header_once() {
        for file in KERNELS {
            let text = expanded(file);
            assert!(!text.contains("#include \""), "{}", file.name);
            assert!(text.contains("__global__"), "{} has no kernel", file.name);
            assert_eq!(text.matches("struct RowStats").count(), 1, "{}", file.name);
        }
    }
}
