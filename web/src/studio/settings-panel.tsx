// The choices: source, devices, quality, and who one is in the channel.

import { Check, Field, Segmented } from "../ui/widgets";
import type { Studio } from "./controller";
import { FRAME_RATES, type Settings, SIZES } from "./settings";

type Change = (change: Partial<Settings>) => void;

interface PartProps {
  studio: Studio;
  settings: Settings;
  change: Change;
}

function DevicePicker(props: {
  label: string;
  value: string;
  devices: readonly MediaDeviceInfo[];
  onChange: (id: string) => void;
}) {
  const missing = props.value !== "" && !props.devices.some((d) => d.deviceId === props.value);
  return (
    <Field
      label={props.label}
      {...(props.devices.length === 0 ? { hint: "Listed once the browser has permission." } : {})}
    >
      {(control) => (
        <select
          {...control}
          class="input"
          value={missing ? "" : props.value}
          onChange={(event) => props.onChange(event.currentTarget.value)}
        >
          <option value="">System default</option>
          {props.devices.map((device, i) => (
            <option key={device.deviceId} value={device.deviceId}>
              {device.label || `${props.label} ${i + 1}`}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

function SourcePart({ studio, settings, change }: PartProps) {
  const devices = studio.devices.value;
  return (
    <section class="card stack">
      <h2>Source</h2>
      <Segmented
        legend="Source of the picture"
        wide
        value={settings.source}
        options={[
          { value: "camera", label: "Camera", icon: "camera" },
          { value: "screen", label: "Screen", icon: "screen" },
          { value: "pattern", label: "Test", icon: "pattern" },
        ]}
        onChange={(source) => change({ source })}
      />
      {settings.source === "camera" ? (
        <DevicePicker
          label="Camera"
          value={settings.cameraId}
          devices={devices.cameras}
          onChange={(cameraId) => change({ cameraId })}
        />
      ) : null}
      {settings.source === "pattern" ? (
        <Field
          label="Sound"
          hint="The tone is for measurements: 1 kHz left, a beep a second right."
        >
          {(control) => (
            <select
              {...control}
              class="input"
              value={settings.sound}
              onChange={(event) =>
                change({ sound: event.currentTarget.value as Settings["sound"] })
              }
            >
              <option value="music">Music</option>
              <option value="tone">Tone</option>
              <option value="silence">Silence</option>
            </select>
          )}
        </Field>
      ) : (
        <>
          <DevicePicker
            label="Microphone"
            value={settings.microphoneId}
            devices={devices.microphones}
            onChange={(microphoneId) => change({ microphoneId })}
          />
          <Check
            label="Clean up the voice (echo and noise)"
            checked={settings.voiceProcessing}
            onChange={(voiceProcessing) => change({ voiceProcessing })}
          />
        </>
      )}
    </section>
  );
}

function NumberField(props: {
  label: string;
  unit: string;
  value: number;
  min: number;
  max: number;
  step: number;
  onChange: (value: number) => void;
}) {
  return (
    <Field label={`${props.label} (${props.unit})`}>
      {(control) => (
        <input
          {...control}
          class="input"
          type="number"
          inputMode="numeric"
          min={props.min}
          max={props.max}
          step={props.step}
          value={props.value}
          onChange={(event) => {
            const value = event.currentTarget.valueAsNumber;
            const safe = Number.isFinite(value) ? value : props.value;
            const bounded = Math.min(props.max, Math.max(props.min, Math.round(safe)));
            event.currentTarget.value = String(bounded);
            props.onChange(bounded);
          }}
        />
      )}
    </Field>
  );
}

function QualityPart({ settings, change }: PartProps) {
  return (
    <section class="card stack">
      <h2>Quality</h2>
      <div class="studio__pair">
        <Field label="Picture">
          {(control) => (
            <select
              {...control}
              class="input"
              value={settings.size}
              onChange={(event) => {
                const size = event.currentTarget.value;
                change({ size, videoKbps: SIZES[size]?.kbps ?? settings.videoKbps });
              }}
            >
              {Object.keys(SIZES).map((size) => (
                <option key={size} value={size}>
                  {size.replace("x", " × ")}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label="Frame rate">
          {(control) => (
            <select
              {...control}
              class="input"
              value={String(settings.fps)}
              onChange={(event) => change({ fps: Number(event.currentTarget.value) })}
            >
              {FRAME_RATES.map((rate) => (
                <option key={rate} value={String(rate)}>
                  {rate} fps
                </option>
              ))}
            </select>
          )}
        </Field>
        <NumberField
          label="Video"
          unit="kb/s"
          value={settings.videoKbps}
          min={100}
          max={12_000}
          step={100}
          onChange={(videoKbps) => change({ videoKbps })}
        />
        <NumberField
          label="Audio"
          unit="kb/s"
          value={settings.audioKbps}
          min={16}
          max={320}
          step={16}
          onChange={(audioKbps) => change({ audioKbps })}
        />
      </div>
      <Field label="When the connection gets slow">
        {(control) => (
          <select
            {...control}
            class="input"
            value={settings.priority}
            onChange={(event) =>
              change({ priority: event.currentTarget.value as Settings["priority"] })
            }
          >
            <option value="channel">As the channel has it</option>
            <option value="balanced">Balance sharpness and motion</option>
            <option value="motion">Keep motion smooth</option>
            <option value="sharpness">Keep the picture sharp</option>
          </select>
        )}
      </Field>
      <Check
        label="Stereo sound"
        checked={settings.stereo}
        onChange={(stereo) => change({ stereo })}
      />
    </section>
  );
}

function RolePart({ studio, settings, change }: PartProps) {
  return (
    <section class="card stack">
      <h2>You in the channel</h2>
      <Segmented
        legend="Role"
        wide
        value={settings.role}
        disabled={studio.onAir}
        options={[
          { value: "host", label: "Host" },
          { value: "guest", label: "Guest" },
        ]}
        onChange={(role) => change({ role })}
      />
      <p class="small muted">
        {settings.role === "host"
          ? "It is your show: viewers see your picture."
          : "You join the show of a host."}{" "}
        Known to the server as <code class="break">{studio.participant}</code>.
      </p>
    </section>
  );
}

export function SettingsPanel({ studio }: { studio: Studio }) {
  const props: PartProps = {
    studio,
    settings: studio.settings.value,
    change: (change) => void studio.change(change),
  };
  return (
    <>
      <SourcePart {...props} />
      <QualityPart {...props} />
      <RolePart {...props} />
    </>
  );
}
