//! Audits: of a log file, and of rounds handed over one by one.

use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use draftpick::Token;
use draftpick::audit::log::{Format, Header, Pass, Reader, Summary};
use draftpick::audit::{Audit, Field, KnownRule, Laws, Record, Settings};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::array::{refused, token};
use crate::parallel;
use crate::problem::Scores;

/// How an audit is made, as Python hands it over: level, accuracy, and on how many rounds to compare.
type Options = (f64, Option<f64>, usize);

fn check((level, accuracy, _): Options) -> PyResult<()> {
    if !(level > 0.0 && level < 1.0) {
        return Err(refused(format_args!("level is {level}; it must be between 0 and 1")));
    }
    match accuracy {
        Some(accuracy) if !(0.0..1.0).contains(&accuracy) => {
            Err(refused(format_args!("accuracy is {accuracy}; it must be in [0, 1)")))
        }
        _ => Ok(()),
    }
}

/// What to hold the engine to: `None` for what the header says, `"none"` for nothing.
fn rule(name: Option<&str>) -> PyResult<Option<Option<KnownRule>>> {
    match name {
        None => Ok(None),
        Some("none") => Ok(Some(None)),
        Some(name) => Ok(Some(Some(name.parse().map_err(refused)?))),
    }
}

/// Audits a log file in one pass and returns the figures in JSON. After each batch of lines `progress` is called with the
/// bytes read and the size of the file, and an interrupt ends the pass.
#[pyfunction]
pub fn audit_file(
    py: Python<'_>,
    path: PathBuf,
    rule_name: Option<&str>,
    options: Options,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    check(options)?;
    let (level, accuracy, compared) = options;
    let threads = parallel::get_num_threads();
    let pass = Pass { level, rule: rule(rule_name)?, accuracy, compared, threads };
    let file = File::open(&path)
        .map_err(|error| PyOSError::new_err((error.raw_os_error(), error.to_string(), path.clone())))?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let (mut done, mut raised) = (0, None);
    let audited = py.detach(|| {
        Reader::new(BufReader::with_capacity(1 << 20, file))?.audit(&pass, |bytes| {
            done += bytes;
            let told = Python::attach(|py| {
                py.check_signals()?;
                progress.as_ref().map_or(Ok(()), |progress| progress.call1(py, (done, size)).map(drop))
            });
            match told {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    raised = Some(error);
                    ControlFlow::Break(())
                }
            }
        })
    });
    if let Some(error) = raised {
        return Err(error);
    }
    let (audit, header) = audited.map_err(|error| refused(format_args!("log '{}': {error}", path.display())))?;
    Ok(Summary::new(&audit, &header).json())
}

/// An audit of rounds that are added one by one.
#[pyclass(module = "draftpick._draftpick")]
pub struct Auditor {
    audit: Audit,
    format: Format,
    header: Header,
}

impl Auditor {
    fn law(
        &self,
        field: Field,
        (path, position): (usize, usize),
        rows: &Scores<'_>,
    ) -> PyResult<Option<Arc<draftpick::audit::LoggedLaw>>> {
        let law = self.format.scores(field, rows.row(position));
        let named = |error| refused(format_args!("{field}[{path}][{position}]: {error}"));
        Ok(Some(Arc::new(law.map_err(named)?)))
    }

    /// The laws along paths; where an earlier path has begun with the same tokens its own are taken.
    fn laws(&self, field: Field, rows: &[Scores<'_>], drafts: &[Vec<Token>]) -> PyResult<Laws> {
        let known = |path: usize, position: usize| {
            drafts[..path].iter().any(|earlier| {
                let longest = earlier.len() + usize::from(field == Field::Target);
                position < longest && drafts[path].get(..position) == earlier.get(..position)
            })
        };
        let path = |(path, rows): (usize, &Scores<'_>)| -> PyResult<Vec<_>> {
            let law = |position: usize| match path < drafts.len() && known(path, position) {
                true => Ok(None),
                false => self.law(field, (path, position), rows),
            };
            (0..rows.len()).map(law).collect()
        };
        rows.iter().enumerate().map(path).collect()
    }
}

/// All tokens of a list.
fn all(name: &str, values: &[i64]) -> PyResult<Vec<Token>> {
    values.iter().enumerate().map(|(at, &value)| token(value, format_args!("{name}[{at}]"))).collect()
}

#[pymethods]
impl Auditor {
    /// `header` is a log's first line.
    #[new]
    fn new(header: &str, options: Options) -> PyResult<Self> {
        check(options)?;
        let (level, accuracy, compared) = options;
        let reader = Reader::new(header.as_bytes()).map_err(|error| refused(error.kind))?;
        let format = reader.format().clone();
        let mut header = reader.header().clone();
        header.accuracy = accuracy.unwrap_or(header.accuracy);
        let settings = Settings { level, rule: header.rule, drawn: header.drawn, accuracy: header.accuracy, compared };
        Ok(Auditor { audit: Audit::new(settings), format, header })
    }

    /// Adds a round: the tokens of each path, rows of scores along each of them, the output. With `next_only` the paths are
    /// drafts of the next token, after which there are no scores.
    fn add(
        &mut self,
        py: Python<'_>,
        drafts: Vec<Vec<i64>>,
        draft: Option<Vec<Scores<'_>>>,
        target: Vec<Scores<'_>>,
        output: Vec<i64>,
        next_only: bool,
    ) -> PyResult<()> {
        let round = self.audit.rounds();
        let named = |error: &dyn std::fmt::Display| refused(format_args!("round {round}: {error}"));
        let in_round = |error: PyErr| named(error.value(py) as &dyn std::fmt::Display);
        let drafts = drafts.iter().enumerate().map(|(path, tokens)| all(&format!("drafts[{path}]"), tokens));
        let drafts = drafts.collect::<PyResult<Vec<_>>>().map_err(in_round)?;
        let output = all("output", &output).map_err(in_round)?;
        let laws = |field, rows: &[Scores<'_>]| self.laws(field, rows, &drafts).map_err(in_round);
        let mut target = laws(Field::Target, &target)?;
        if next_only && !drafts.is_empty() {
            target.iter_mut().for_each(|laws| laws.push(None));
        }
        let draft = draft.map_or(Ok(Laws::new()), |rows| laws(Field::Draft, &rows))?;
        let (audit, vocab) = (&mut self.audit, self.header.vocab);
        let added = py.detach(|| -> Result<(), String> {
            let record = Record::new(vocab, &drafts, draft, target, output).map_err(|error| error.to_string())?;
            let look = audit.plan().look(round, &record).map_err(|error| format!("rule: {error}"))?;
            audit.add(look);
            Ok(())
        });
        added.map_err(|error| named(&error))
    }

    /// The number of rounds so far.
    #[getter]
    fn rounds(&self) -> u64 {
        self.audit.rounds()
    }

    /// The figures so far, in JSON.
    fn summary(&self) -> PyResult<String> {
        match self.audit.rounds() {
            0 => Err(refused("there are no rounds")),
            _ => Ok(Summary::new(&self.audit, &self.header).json()),
        }
    }
}
