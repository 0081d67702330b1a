//! The network as it is assumed to be: every number in one place, with where it is from.
//!
//! The parameters are frozen by a hash, which a test asserts: whoever changes one sees that all figures have to be
//! measured again. Those that no source gives are marked [`From::Assumed`], and the bench varies each of them.

/// Where a number is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The RLIVE paper states it, or it is fitted to what the paper states.
    Paper,
    /// Nobody states it.
    Assumed,
    /// Chosen so that a gate ([`super::gates`]) reproduces what the paper states.
    Calibrated,
}

/// One number of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameter {
    /// Its name; the unit comes last.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// Where it is from.
    pub from: From,
}

macro_rules! model {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal, $from:ident;)+) => {
        /// The network and the stream that is sent over it.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Model {
            $($(#[doc = $doc])+ pub $name: f64,)+
        }

        impl Default for Model {
            fn default() -> Self {
                Self { $($name: $value,)+ }
            }
        }

        impl Model {
            /// All numbers.
            #[must_use]
            pub fn parameters(&self) -> Vec<Parameter> {
                vec![$(Parameter {
                    name: stringify!($name),
                    value: self.$name,
                    from: From::$from,
                },)+]
            }

            /// The same model but for one number; `None` when there is none of that name.
            #[must_use]
            pub fn with(&self, name: &str, value: f64) -> Option<Self> {
                let mut other = self.clone();
                let place = match name {
                    $(stringify!($name) => &mut other.$name,)+
                    _ => return None,
                };
                *place = value;
                Some(other)
            }
        }
    };
}

model! {
    /// Bitrate of the pictures.
    video_kbps = 2_000.0, Assumed;
    /// Time between keyframes.
    gop_s = 2.0, Assumed;
    /// Bytes of a keyframe, in those of another picture.
    keyframe_factor = 8.0, Assumed;
    /// Spread of the sizes of pictures (σ of the logarithm).
    picture_sigma = 0.3, Assumed;

    /// How long viewers watch. What stalls have put them behind grows with it.
    watched_s = 210.0, Calibrated;
    /// The fastest that a viewer plays who is behind its target: as our watch page.
    fastest = 1.06, Assumed;
    /// What each stall adds to a viewer's target: as our watch page, and ExoPlayer.
    stall_adds_ms = 500.0, Assumed;

    /// Load of the dedicated node that all connections share: the peak.
    cdn_load = 0.95, Paper;
    /// Standard deviation of that load, in parts of it.
    cdn_load_sd = 0.093, Calibrated;
    /// Time in which the load forgets what it was.
    cdn_load_memory_s = 10.0, Assumed;
    /// What one connection can carry when nothing is short.
    last_mile_mbps = 20.0, Assumed;
    /// Round trip to the dedicated node, median.
    cdn_rtt_ms = 20.0, Assumed;
    /// Its spread.
    cdn_rtt_sigma = 0.4, Assumed;
    /// A frame from the dedicated node, median (§2.4).
    fetch_ms = 71.1, Paper;
    /// Its spread.
    fetch_sigma = 0.6, Assumed;
    /// How often that succeeds (§2.4).
    fetch_success = 0.9409, Paper;
    /// After how long a request that does not succeed fails.
    fetch_fails_after_ms = 1_000.0, Assumed;
    /// An answer of the scheduler, median (§7.3.1).
    recommend_ms = 58.2, Paper;
    /// Its spread: the 90th percentile is 111.5 ms.
    recommend_sigma = 0.507, Paper;

    /// Uplinks of relays, mean of the logarithm of Mb/s: 29 % below 10, 12 % above 100 (§2.1).
    uplink_mu = 3.04, Paper;
    /// Their spread.
    uplink_sigma = 1.332, Paper;
    /// What a relay really has of what it says: Beta(α, β).
    uplink_alpha = 5.0, Assumed;
    /// β.
    uplink_beta = 2.0, Assumed;
    /// Relays that something else than bandwidth limits.
    weak_share = 0.15, Assumed;
    /// What those really have, least and most.
    weak_least = 0.05, Assumed;
    /// Most.
    weak_most = 0.2, Assumed;
    /// What waits in a relay's uplink at most.
    uplink_queue_ms = 500.0, Assumed;

    /// Life of relays: half are gone after a day (§2.2), here sixty times faster.
    life_median_s = 1_440.0, Paper;
    /// Shape of the Weibull distribution of lives.
    life_shape = 0.6, Assumed;
    /// Time between outages of a relay.
    outage_every_s = 1_200.0, Assumed;
    /// Outages last between one second and this.
    outage_most_s = 10.0, Assumed;

    /// One way from a relay to a player of the same provider, median.
    delay_ms = 25.0, Assumed;
    /// To one of another provider.
    delay_far_ms = 45.0, Assumed;
    /// Spread of both.
    delay_sigma = 0.5, Assumed;
    /// Jitter, mean.
    jitter_ms = 3.0, Assumed;
    /// Time between congestion of a relay.
    congested_every_s = 40.0, Assumed;
    /// How long it lasts.
    congested_s = 1.5, Assumed;
    /// What it adds to the delay at least.
    congested_least_ms = 100.0, Assumed;
    /// And at most.
    congested_most_ms = 800.0, Assumed;
    /// Loss in good times (Gilbert and Elliott).
    loss_good = 0.001, Assumed;
    /// In bad times.
    loss_bad = 0.15, Assumed;
    /// How long bad times last.
    bad_ms = 300.0, Assumed;
    /// Part of the time that is bad.
    bad_share = 0.015, Assumed;
    /// How long a relay takes with a request for packets before it answers, median.
    reply_ms = 650.0, Calibrated;
    /// Its spread.
    reply_sigma = 0.9, Assumed;

    /// Recommended relays that are gone (§2.3: up to 35 % of all are unusable).
    stale_share = 0.12, Assumed;
    /// That have no room.
    full_share = 0.10, Assumed;
    /// That a player cannot reach.
    unreachable_share = 0.08, Assumed;
    /// That take more than a second to answer.
    slow_share = 0.05, Assumed;
    /// Time between failures of the node that sequences centrally.
    sequencer_fails_every_s = 3_600.0, Assumed;
    /// How long it is away.
    sequencer_away_s = 10.0, Assumed;
}

impl Model {
    /// FNV-1a over names and values.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for parameter in self.parameters() {
            let value = parameter.value.to_bits().to_be_bytes();
            for byte in parameter.name.bytes().chain(value) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        hash
    }
}
