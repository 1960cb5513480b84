//! Metrics whose value is counted elsewhere and read when it is asked for.

use std::{collections::HashMap, fmt};

use prometheus::{
    Error, Opts,
    core::{Collector, Desc, Describer as _},
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

/// Where a value is read.
pub(super) type Source = Box<dyn Fn() -> u64 + Send + Sync>;

/// A counter or a gauge that asks for its values, one for each set of labels.
pub(super) struct Pulled {
    desc: Desc,
    kind: MetricType,
    series: Vec<(Vec<LabelPair>, Source)>,
}

impl Pulled {
    /// `labels` are the names; each series comes with as many values.
    pub(super) fn counter(opts: Opts, labels: &[&str], series: Vec<(Vec<&str>, Source)>) -> Result<Self, Error> {
        Self::new(opts, labels, series, MetricType::COUNTER)
    }

    pub(super) fn gauge(opts: Opts, value: impl Fn() -> u64 + Send + Sync + 'static) -> Result<Self, Error> {
        Self::new(opts, &[], vec![(Vec::new(), Box::new(value))], MetricType::GAUGE)
    }

    fn new(opts: Opts, labels: &[&str], series: Vec<(Vec<&str>, Source)>, kind: MetricType) -> Result<Self, Error> {
        let names = labels.iter().map(|&name| name.to_owned()).collect();
        let described = opts.describe()?;
        let desc = Desc::new(described.fq_name, described.help, names, HashMap::new())?;
        let pair = |(name, value): (&&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        let series = series
            .into_iter()
            .map(|(values, source)| (labels.iter().zip(values).map(pair).collect(), source))
            .collect();
        Ok(Self { desc, kind, series })
    }
}

impl Collector for Pulled {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = self.series.iter().map(|(labels, source)| {
            #[allow(clippy::cast_precision_loss, reason = "Prometheus knows no other numbers")]
            let value = source() as f64;
            let mut metric = if self.kind == MetricType::COUNTER {
                let mut counter = Counter::default();
                counter.set_value(value);
                let mut metric = Metric::default();
                metric.set_counter(counter);
                metric
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                Metric::from_gauge(gauge)
            };
            metric.set_label(labels.clone());
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(self.kind);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

impl fmt::Debug for Pulled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulled")
            .field("name", &self.desc.fq_name)
            .finish_non_exhaustive()
    }
}
