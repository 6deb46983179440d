//! Texts from a pair of models, drafts drawn and verified on the host or on the GPU that holds the scores.

use clap::ValueEnum;
#[cfg(feature = "candle-cuda")]
use draftpick::decode::candle::{CudaSampler, Resident};
use draftpick::decode::candle::{Device, Llama};
use draftpick::decode::{Model, Request, Sampler, Settings, Speculative, Statistics};
use draftpick::path::Verifier;
use serde::Serialize;

/// Where the rows of scores are when a draft is drawn from them or a round is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Rows {
    /// Where the models left them, for the verifiers that run there
    Device,
    /// Copied to the host
    Host,
}

/// Where a verifier runs, if `asked` is possible.
pub fn rows_of(verifier: Verifier, asked: Rows, device: &Device) -> Rows {
    #[cfg(feature = "candle-cuda")]
    if asked == Rows::Device && device.is_cuda() && CudaSampler::is_on_device(verifier) {
        return Rows::Device;
    }
    let _ = (verifier, asked, device);
    Rows::Host
}

/// Generates one text after the other, and says when each is done. Gives the draft and the target model back.
pub fn decode(
    (draft, target): (Llama, Llama),
    settings: Settings,
    rows: Rows,
    requests: &[Request],
    done: &mut dyn FnMut(),
) -> anyhow::Result<((Llama, Llama), Statistics)> {
    match rows {
        Rows::Host => run(Speculative::new(draft, target, settings)?, requests, done),
        #[cfg(feature = "candle-cuda")]
        Rows::Device => {
            let sampler = CudaSampler::new(target.device())?;
            let engine = Speculative::with_sampler(Resident(draft), Resident(target), settings, sampler)?;
            let ((draft, target), statistics) = run(engine, requests, done)?;
            Ok(((draft.0, target.0), statistics))
        }
        #[cfg(not(feature = "candle-cuda"))]
        Rows::Device => anyhow::bail!("this build leaves no rows on a device"),
    }
}

fn run<D, T, S>(
    mut engine: Speculative<D, T, S>,
    requests: &[Request],
    done: &mut dyn FnMut(),
) -> anyhow::Result<((D, T), Statistics)>
where
    D: Model,
    T: Model<Row = D::Row>,
    S: Sampler<D::Row>,
{
    for request in requests {
        for token in engine.tokens(request.clone())? {
            token?;
        }
        done();
    }
    let statistics = engine.statistics().clone();
    Ok((engine.into_models(), statistics))
}
