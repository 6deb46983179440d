//! Texts from a pair of models, drafts drawn and verified on the host or on the GPU that holds the scores.

use clap::ValueEnum;
#[cfg(feature = "candle-cuda")]
use draftpick::decode::candle::{CudaSampler, Resident};
use draftpick::decode::candle::{Device, Llama};
use draftpick::decode::{Model, Progress, Request, Sampler, Settings, Speculative, Statistics};
use draftpick::path::{LogitRow, Round, RoundCoins, Verifier};
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

/// Where a verifier runs, if `asked` is possible. Greedy rows have no law on the device.
pub fn rows_of(verifier: Verifier, asked: Rows, settings: &Settings, device: &Device) -> Rows {
    #[cfg(feature = "candle-cuda")]
    if asked == Rows::Device
        && device.is_cuda()
        && CudaSampler::is_on_device(verifier)
        && settings.sampling.temperature > 0.0
        && settings.draft_sampling.temperature > 0.0
    {
        return Rows::Device;
    }
    let _ = (verifier, asked, settings, device);
    Rows::Host
}

/// Who is told of texts as they come.
pub trait Listener {
    /// A round that is about to be decided, if its rows are on the host.
    fn drafted(&mut self, _: &Round<LogitRow>, _: &RoundCoins) {}

    /// What a round added to the text.
    fn heard(&mut self, progress: Progress) -> anyhow::Result<()>;
}

/// Told only when a text is done.
pub struct WhenDone<F>(pub F);

impl<F: FnMut()> Listener for WhenDone<F> {
    fn heard(&mut self, progress: Progress) -> anyhow::Result<()> {
        if progress.finish.is_some() {
            (self.0)();
        }
        Ok(())
    }
}

#[cfg(feature = "candle-cuda")]
type DeviceSampler = CudaSampler;
#[cfg(not(feature = "candle-cuda"))]
type DeviceSampler = std::convert::Infallible;

/// A pair of models, and what verifies where they left their scores.
pub struct Models {
    pub draft: Llama,
    pub target: Llama,
    /// Kept from text to text: it has its kernels loaded.
    sampler: Option<DeviceSampler>,
}

impl Models {
    pub fn new(draft: Llama, target: Llama) -> Self {
        Models { draft, target, sampler: None }
    }
}

/// Generates one text after the other. Gives the models back.
pub fn decode<H: Listener>(
    Models { draft, target, sampler }: Models,
    settings: Settings,
    rows: Rows,
    requests: &[Request],
    listener: &mut H,
) -> anyhow::Result<(Models, Statistics)> {
    match rows {
        Rows::Host => {
            let engine = Speculative::new(draft, target, settings)?;
            let ((draft, target, _), statistics) = run(engine, requests, listener, H::drafted)?;
            Ok((Models { draft, target, sampler }, statistics))
        }
        #[cfg(feature = "candle-cuda")]
        Rows::Device => {
            let sampler = sampler.map_or_else(|| CudaSampler::new(target.device()), Ok)?;
            let engine = Speculative::with_sampler(Resident(draft), Resident(target), settings, sampler)?;
            let ((draft, target, sampler), statistics) = run(engine, requests, listener, |_, _, _| ())?;
            Ok((Models { draft: draft.0, target: target.0, sampler: Some(sampler) }, statistics))
        }
        #[cfg(not(feature = "candle-cuda"))]
        Rows::Device => anyhow::bail!("this build leaves no rows on a device"),
    }
}

fn run<D, T, S, H>(
    mut engine: Speculative<D, T, S>,
    requests: &[Request],
    listener: &mut H,
    drafted: impl Fn(&mut H, &Round<S::Law>, &RoundCoins),
) -> anyhow::Result<((D, T, S), Statistics)>
where
    D: Model,
    T: Model<Row = D::Row>,
    S: Sampler<D::Row>,
    H: Listener,
{
    for request in requests {
        engine.add(request.clone())?;
        while !engine.is_idle() {
            for progress in engine.observed_round(&mut |round, coins| drafted(listener, round, coins))? {
                listener.heard(progress)?;
            }
        }
    }
    let statistics = engine.statistics().clone();
    Ok((engine.into_parts(), statistics))
}
