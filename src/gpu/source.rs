//! The CUDA C++ sources that are part of the crate, joined into one text for the compiler.

/// A file of `kernels/`: its name and its text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File {
    pub name: &'static str,
    pub text: &'static str,
}

/// What other files include. A file includes those before it only.
const HEADERS: [File; 2] = [
    File { name: "row.cuh", text: include_str!("kernels/row.cuh") },
    File { name: "coins.cuh", text: include_str!("kernels/coins.cuh") },
];

/// Files with kernels in them: each is compiled by itself.
pub(crate) const KERNELS: [File; 1] = [PROBE];

pub(crate) const PROBE: File = File { name: "probe.cu", text: include_str!("kernels/probe.cu") };

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
