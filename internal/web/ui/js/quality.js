// Which of a camera's layers its picture asks the box for.

const SMALL = 0.5; // of the best layer's width: with fewer pixels the low layer has all that can be seen

/** What a person may choose for a camera that is shown alone. */
export const CHOICES = ['auto', 'high', 'low'];

/** Whether there is something to choose. */
export const several = (camera) => (camera.layers?.length ?? 0) > 1;

/**
 * The quality to ask for while the picture is in sight. alone: it has the
 * window to itself, and choice is a person's; otherwise its width decides, in
 * device pixels.
 */
export function quality(camera, { alone, choice, pixels }) {
  if (!several(camera)) return 'auto';
  if (alone) return choice;
  return pixels < camera.layers[0].width * SMALL ? 'low' : 'auto'; // a width not known yet is no reason for low
}

const key = (id) => `edged.quality.${id}`;

/** A person's choice for a camera, kept in this tab over a reload where the browser lets it. */
export const choices = {
  get(id) {
    let kept;
    try { kept = sessionStorage.getItem(key(id)); } catch { /* storage is forbidden: the tile remembers until it goes */ }
    return CHOICES.includes(kept) ? kept : 'auto';
  },
  set(id, choice) {
    try { sessionStorage.setItem(key(id), choice); } catch { /* as above */ }
  },
};
