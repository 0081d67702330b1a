//! What a producer chose for the slate and for behind the tiles; without a choice the node's configuration holds.

use media::link::{ImageRef, ToMixer};
use signaling::types::{PicturePlace, Slate, Upload};

use super::MixerRun;
use crate::channel::task::Task;
use crate::clock;
use crate::config;

/// A picture with its number on the link.
struct Numbered {
    number: u32,
    upload: Upload,
}

/// The choices of one channel.
#[derive(Default)]
pub(super) struct Look {
    text: Option<String>,
    slate: Option<Numbered>,
    background: Option<Numbered>,
    /// The newest number.
    uploads: u32,
}

impl Look {
    fn place(&mut self, place: PicturePlace) -> &mut Option<Numbered> {
        match place {
            PicturePlace::Slate => &mut self.slate,
            PicturePlace::Background => &mut self.background,
        }
    }

    fn put(&mut self, place: PicturePlace, upload: Option<Upload>) {
        // Never a number again, so that a mixer cannot take an old picture for the new one
        self.uploads = self.uploads.saturating_add(1);
        let number = self.uploads;
        *self.place(place) = upload.map(|upload| Numbered { number, upload });
    }

    /// As the API shows it.
    pub(super) fn view(&self) -> Slate {
        let still = |numbered: &Option<Numbered>| Some(numbered.as_ref()?.upload.still.clone());
        Slate {
            text: self.text.clone(),
            picture: still(&self.slate),
            background: still(&self.background),
        }
    }

    /// The picture behind the tiles, and the slate, for a mixer.
    pub(super) fn scene(&self, config: &config::Mixer) -> (Option<ImageRef>, media::link::Slate) {
        let file = |path: &String| (!path.is_empty()).then(|| ImageRef::File(path.clone()));
        let image = |sent: &Option<Numbered>, path| match sent {
            Some(numbered) => Some(ImageRef::Sent(numbered.number)),
            None => file(path),
        };
        let text = self.text.as_ref().unwrap_or(&config.slate_text);
        let slate = media::link::Slate {
            text: (!text.is_empty()).then(|| text.clone()),
            image: image(&self.slate, &config.slate_image),
        };
        (image(&self.background, &config.background_image), slate)
    }

    /// Sends a mixer the pictures that it does not have: before the scene that shows them.
    pub(super) fn tell(&self, running: &mut MixerRun) {
        let Some(process) = &running.process else {
            return;
        };
        let mut newest = running.images;
        for numbered in [&self.slate, &self.background].into_iter().flatten() {
            if numbered.number > running.images {
                process.say(ToMixer::Image {
                    number: numbered.number,
                    data: numbered.upload.data.clone(),
                });
                newest = newest.max(numbered.number);
            }
        }
        running.images = newest;
    }
}

impl Task {
    /// Changes what the slate says; `None`: what the configuration says.
    pub(in crate::channel::task) fn set_slate(&mut self, text: Option<String>) -> Slate {
        self.stage.look.text = text;
        self.look_changed();
        self.stage.look.view()
    }

    /// Takes a picture, or takes it away.
    pub(in crate::channel::task) fn set_picture(
        &mut self,
        place: PicturePlace,
        upload: Option<Upload>,
    ) {
        self.stage.look.put(place, upload);
        self.look_changed();
    }

    /// The picture that was uploaded.
    pub(in crate::channel::task) fn picture(&mut self, place: PicturePlace) -> Option<Upload> {
        let found = self.stage.look.place(place).as_ref()?;
        Some(found.upload.clone())
    }

    fn look_changed(&mut self) {
        self.set_scene(clock::now());
        self.announce();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use signaling::types::Still;

    fn upload() -> Option<Upload> {
        let still = Still {
            media_type: "image/png".into(),
            width: 1,
            height: 1,
            bytes: 1,
        };
        let data = Bytes::from_static(b"x");
        Some(Upload { still, data })
    }

    #[test]
    fn a_choice_goes_before_the_configuration_and_can_be_taken_back() {
        let config = config::Mixer {
            slate_text: "Soon".into(),
            slate_image: "/a.png".into(),
            ..config::Mixer::default()
        };
        let mut look = Look::default();
        let file = Some(ImageRef::File("/a.png".into()));
        let (background, slate) = look.scene(&config);
        assert_eq!(
            (background, slate.image, slate.text.as_deref()),
            (None, file.clone(), Some("Soon"))
        );
        look.text = Some(String::new());
        look.put(PicturePlace::Slate, upload());
        look.put(PicturePlace::Background, upload());
        let (background, slate) = look.scene(&config);
        assert_eq!(
            (background, slate.image),
            (Some(ImageRef::Sent(2)), Some(ImageRef::Sent(1)))
        );
        assert_eq!(slate.text, None, "an empty text is no text");
        assert!(look.view().picture.is_some() && look.view().background.is_some());
        look.put(PicturePlace::Slate, None);
        look.put(PicturePlace::Slate, upload());
        assert_eq!(
            look.scene(&config).1.image,
            Some(ImageRef::Sent(4)),
            "never a number again"
        );
        look.put(PicturePlace::Slate, None);
        assert_eq!(look.scene(&config).1.image, file);
    }
}
