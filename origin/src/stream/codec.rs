//! What a stream consists of: its codec configurations and what its metadata promises.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use media::flv::{AudioBody, Tag, TagKind, VideoBody};
use media::{Config, Error, Rate, Track, TrackId, aac, h264};

use crate::amf0::{self, Value};

/// The tracks' configurations and the sequence headers that announce them.
#[derive(Debug, Default)]
pub(crate) struct Codecs {
    pub(crate) video: Option<Header>,
    pub(crate) audio: Option<Header>,
    promise: Promise,
}

/// One track's configuration.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) track: Arc<Track>,
    /// The body of its sequence header tag.
    pub(crate) body: Bytes,
    /// Not yet sent to viewers inline.
    pub(crate) pending: bool,
    /// Its pictures look like those before to everything but the decoder: the parameter sets go into the keyframes, and
    /// viewers who are here already get no sequence header. See [`Header::keyframe`].
    pub(crate) in_band: bool,
}

/// What `onMetaData` of the publisher says about the tracks that will come.
#[derive(Debug, Default)]
struct Promise {
    audio: Option<bool>,
    video: Option<bool>,
    encoder: Option<String>,
    fps: Option<f64>,
}

impl Codecs {
    /// Takes a video sequence header. The same one again changes nothing.
    pub(crate) fn set_video(&mut self, record: &Bytes, body: &Bytes) -> Result<(), Error> {
        if self.video.as_ref().is_some_and(|known| known.body == *body) {
            return Ok(());
        }
        let config = Config::H264(h264::Config::from_avcc(record)?);
        let mut header = Header::new(TrackId(0), config, Rate::VIDEO, body);
        header.in_band = self.video.as_ref().is_some_and(|known| {
            (known.in_band || !known.pending) && known.is_alike(&header.track.config)
        });
        self.video = Some(header);
        Ok(())
    }

    /// Takes an audio sequence header. The same one again changes nothing.
    pub(crate) fn set_audio(&mut self, asc: Bytes, body: &Bytes) -> Result<(), Error> {
        if self.audio.as_ref().is_some_and(|known| known.body == *body) {
            return Ok(());
        }
        let config = aac::Config::parse(asc)?;
        let rate = Rate::new(config.sample_rate_hz).unwrap_or(Rate::AUDIO);
        self.audio = Some(Header::new(TrackId(1), Config::Aac(config), rate, body));
        Ok(())
    }

    /// Takes what is of use from `onMetaData`; anything else is ignored.
    pub(crate) fn set_metadata(&mut self, body: &[u8]) {
        let Some(values) = amf0::read(body) else {
            return;
        };
        let Some(object) = values
            .iter()
            .find(|value| matches!(value, Value::Object(_)))
        else {
            return;
        };
        let has = |codec: &str, flag: &str| match object.get(flag) {
            Some(Value::Bool(flag)) => *flag,
            _ => object.get(codec).is_some_and(|id| *id != Value::Null),
        };
        self.promise = Promise {
            audio: Some(has("audiocodecid", "hasAudio")),
            video: Some(has("videocodecid", "hasVideo")),
            encoder: object
                .get("encoder")
                .and_then(Value::as_text)
                .map(|text| text.chars().take(100).collect()),
            fps: object
                .get("framerate")
                .and_then(Value::as_number)
                .filter(|fps| (1.0..=240.0).contains(fps)),
        };
    }

    pub(crate) fn forget_promise(&mut self) {
        self.promise = Promise::default();
    }

    /// All present configurations have been sent.
    pub(crate) fn announced(&mut self) {
        for header in [&mut self.video, &mut self.audio].into_iter().flatten() {
            header.pending = false;
        }
    }

    /// Whether every track that is expected has its configuration.
    pub(crate) fn complete(&self) -> bool {
        let done = |known: bool, promised: Option<bool>| known || promised == Some(false);
        done(self.video.is_some(), self.promise.video)
            && done(self.audio.is_some(), self.promise.audio)
            && (self.video.is_some() || self.audio.is_some())
    }

    pub(crate) fn expects_video(&self) -> bool {
        self.video.is_some() || self.promise.video == Some(true)
    }

    /// Everything that a player needs before the first frame, at time `dts_ms`.
    ///
    /// The metadata is at time 0 whatever the stream's time is: ffmpeg takes a script tag of another time for a
    /// track of text.
    pub(crate) fn prelude(&self, dts_ms: i64) -> Bytes {
        let timestamp_ms = wrap_ms(dts_ms);
        let mut out = BytesMut::new();
        let mut put = |kind, timestamp_ms, body: Bytes| {
            Tag {
                kind,
                timestamp_ms,
                body,
            }
            .write(&mut out);
        };
        put(TagKind::Script, 0, self.metadata());
        for (kind, header) in [(TagKind::Video, &self.video), (TagKind::Audio, &self.audio)] {
            if let Some(header) = header {
                put(kind, timestamp_ms, header.body.clone());
            }
        }
        out.freeze()
    }

    /// Our own `onMetaData`: only what is known, so that a player neither waits for a track that will not come nor
    /// misses one that will.
    fn metadata(&self) -> Bytes {
        let mut properties = vec![
            ("hasVideo".to_owned(), Value::Bool(self.video.is_some())),
            ("hasAudio".to_owned(), Value::Bool(self.audio.is_some())),
        ];
        let mut put = |name: &str, value: Value| properties.push((name.to_owned(), value));
        if let Some(Config::H264(avc)) = self.video.as_ref().map(|header| &header.track.config) {
            put("width", Value::Number(f64::from(avc.width)));
            put("height", Value::Number(f64::from(avc.height)));
            put("videocodecid", Value::Number(7.0));
            if let Some(fps) = self.promise.fps {
                put("framerate", Value::Number(fps));
            }
        }
        if let Some(Config::Aac(aac)) = self.audio.as_ref().map(|header| &header.track.config) {
            put("audiocodecid", Value::Number(10.0));
            put(
                "audiosamplerate",
                Value::Number(f64::from(aac.sample_rate_hz)),
            );
            put("stereo", Value::Bool(aac.channels == 2));
        }
        if let Some(encoder) = &self.promise.encoder {
            put("encoder", Value::text(encoder.clone()));
        }
        let mut out = BytesMut::new();
        amf0::write(&[Value::text("onMetaData")], &mut out);
        amf0::write_ecma_array(&properties, &mut out);
        out.freeze()
    }
}

impl Header {
    fn new(id: TrackId, config: Config, rate: Rate, body: &Bytes) -> Self {
        Self {
            track: Arc::new(Track { id, config, rate }),
            body: Bytes::copy_from_slice(body),
            pending: true,
            in_band: false,
        }
    }

    /// Same size and profile: a decoder that is set up for one takes the other after its parameter sets.
    fn is_alike(&self, other: &Config) -> bool {
        let (Config::H264(own), Config::H264(other)) = (&self.track.config, other) else {
            return false;
        };
        let looks = |config: &h264::Config| {
            let [profile, ..] = config.profile_level();
            (config.width, config.height, profile)
        };
        looks(own) == looks(other)
    }

    /// The body of a keyframe's tag as viewers get it: with the parameter sets, where those are carried in band.
    ///
    /// Players set up their decoder anew at a sequence header, and common ones lose the last pictures before it (mpegts.js
    /// 1.8 keeps up to two back, and media source extensions then drop them): a hole at which playback stops. A player that
    /// keeps its old configuration puts that before every keyframe, so each one brings the valid sets.
    pub(crate) fn keyframe(&self, body: &Bytes) -> Bytes {
        /// Frame type and codec, packet type, composition time.
        const PREFIX_BYTES: usize = 5;
        let Config::H264(config) = &self.track.config else {
            return body.clone();
        };
        match body.split_at_checked(PREFIX_BYTES) {
            Some((prefix, pictures)) if self.in_band => {
                let sets = std::iter::once(&config.sps).chain(&config.pps);
                let sets = h264::to_avcc(sets.map(AsRef::as_ref));
                [prefix, &sets, pictures].concat().into()
            }
            _ => body.clone(),
        }
    }
}

/// What a media tag carries.
pub(crate) enum Body {
    Video {
        keyframe: bool,
        composition_ms: i32,
        data: Bytes,
    },
    Audio(Bytes),
}

/// Sorts a tag: configurations and metadata are remembered, media is returned.
pub(crate) fn sort(codecs: &mut Codecs, tag: &Tag) -> Result<Option<Body>, Error> {
    match tag.kind {
        TagKind::Script => {
            codecs.set_metadata(&tag.body);
            Ok(None)
        }
        // Some encoders send empty tags while they have nothing to say.
        TagKind::Video | TagKind::Audio if tag.body.is_empty() => Ok(None),
        // Video info and command frames (frame type 5) carry no picture.
        TagKind::Video if tag.body.first().is_some_and(|first| first >> 4 == 5) => Ok(None),
        TagKind::Video => match VideoBody::parse(&tag.body)? {
            VideoBody::AvcConfig(record) => {
                codecs.set_video(&record, &tag.body)?;
                Ok(None)
            }
            VideoBody::Avc {
                keyframe,
                composition_ms,
                data,
            } => Ok(Some(Body::Video {
                keyframe,
                composition_ms,
                data,
            })),
            VideoBody::AvcEnd => Ok(None),
        },
        TagKind::Audio => match AudioBody::parse(&tag.body)? {
            AudioBody::AacConfig(asc) => {
                codecs.set_audio(asc, &tag.body)?;
                Ok(None)
            }
            AudioBody::Aac(data) => Ok(Some(Body::Audio(data))),
        },
    }
}

/// FLV timestamps are milliseconds modulo 2³².
pub(crate) fn wrap_ms(dts_ms: i64) -> u32 {
    u32::try_from(dts_ms.rem_euclid(1 << 32)).unwrap_or_default()
}
