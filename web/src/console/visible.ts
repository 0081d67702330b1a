// Live pictures on a page of many: only what is seen plays, and only so many at a time.

import { useEffect, useState } from "preact/hooks";

/** Hands out the few places; who has waited longest comes next. */
export class PreviewPlaces {
  readonly #limit: number;
  readonly #holders: (() => void)[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Calls `grant` once there is a place, perhaps at once; the result gives the place (or the wait) up. */
  request(grant: () => void): () => void {
    this.#holders.push(grant);
    if (this.#holders.length <= this.#limit) grant();
    return () => {
      const at = this.#holders.indexOf(grant);
      if (at < 0) return;
      this.#holders.splice(at, 1);
      if (at < this.#limit) this.#holders[this.#limit - 1]?.();
    };
  }
}

/** Whether the element is on the screen, or nearly so, of a page that is seen. */
export function useVisible(element: { readonly current: Element | null }): boolean {
  const [visible, setVisible] = useState(false);
  useEffect(() => {
    if (!element.current) return;
    let near = false;
    const update = () => setVisible(near && document.visibilityState === "visible");
    const observer = new IntersectionObserver(
      (entries) => {
        near = entries.at(-1)?.isIntersecting ?? false;
        update();
      },
      { rootMargin: "64px" },
    );
    observer.observe(element.current);
    document.addEventListener("visibilitychange", update);
    return () => {
      observer.disconnect();
      document.removeEventListener("visibilitychange", update);
    };
  }, [element]);
  return visible;
}

/** Whether one of the `places` is held, for as long as it is `wanted`. */
export function usePlace(places: PreviewPlaces, wanted: boolean): boolean {
  const [held, setHeld] = useState(false);
  useEffect(() => {
    if (!wanted) return;
    const release = places.request(() => setHeld(true));
    return () => {
      release();
      setHeld(false);
    };
  }, [places, wanted]);
  return held && wanted;
}
