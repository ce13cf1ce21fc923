// Files that the browser creates and saves: pictures as SVG, or as PNG with twice the pixels, and tables.

const SCALE = 2;

/** Return a file name for `title`: characters other than letters and digits become a dash. */
export function fileName(title, ending) {
  return `${title.replace(/[^\p{L}\p{N}._-]+/gu, "-")}.${ending}`;
}

export function saveText(content, type, name) {
  saveBlob(new Blob([content], { type }), name);
}

/** Save a picture {svg, width, height} as PNG, with `SCALE` times as many pixels each way. */
export async function savePng({ svg, width, height }, name) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * SCALE);
  canvas.height = Math.round(height * SCALE);
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  saveBlob(await new Promise((resolve) => canvas.toBlob(resolve)), name);
}

function saveBlob(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
