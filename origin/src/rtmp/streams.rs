//! The origin's streams as an ingest.

use std::sync::Arc;
use std::time::Instant;

use media::flv::Tag;

use super::{Counters, Ingest, Publication, Refusal, Request, code};
use crate::hub::{Closed, Hub, Publishing, is_name};
use crate::{Denied, metrics, stream};

/// Publishers feed the hub's streams.
pub(crate) struct Streams(pub(crate) Arc<Hub>);

impl Ingest for Streams {
    type Publication = Publishing;

    const COUNTERS: Counters = Counters {
        connections: metrics::CONNECTIONS,
        refused: metrics::REFUSED,
        bad_input: metrics::BAD_INPUT,
        panics: metrics::PANICS,
    };

    async fn publish(&self, request: Request) -> Result<Publishing, Refusal> {
        let name = request.stream.as_str();
        if !is_name(name) {
            let rule = "a stream's name consists of letters, digits, - _ . ~ (at most 128)";
            return Err(Refusal::new(code::BAD_NAME, rule));
        }
        if let Err(denied) = self.0.access.may_publish(name, request.query.token()) {
            let code = match denied {
                Denied::Unauthorized => code::UNAUTHORIZED,
                Denied::Forbidden(_) => code::DENIED,
            };
            return Err(Refusal::new(code, denied.to_string()));
        }
        self.0.publish(name).map_err(|closed| match closed {
            Closed::Stream(error) => refusal(&error),
            Closed::Full(_) | Closed::ShuttingDown | Closed::Unknown => {
                Refusal::new(code::FAILED, closed.to_string())
            }
        })
    }
}

impl Publication for Publishing {
    fn push(&mut self, now: Instant, tag: Tag) -> Result<(), Refusal> {
        self.take(now, tag).map_err(|error| refusal(&error))
    }
}

fn refusal(error: &stream::Error) -> Refusal {
    let code = match error {
        stream::Error::Busy => code::BAD_NAME,
        stream::Error::Replaced => code::ENDED,
        stream::Error::Ended => code::FAILED,
        stream::Error::Media(_) => code::REJECTED,
    };
    Refusal::new(code, error.to_string())
}
