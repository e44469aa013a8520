// Pictures and videos: what a person gives, as the page shows it and as the server gets it.

const EXTENSIONS = {
  heic: "image/heic",
  heif: "image/heif",
  avif: "image/avif",
  tif: "image/tiff",
  tiff: "image/tiff",
  bmp: "image/bmp",
  mkv: "video/x-matroska",
  avi: "video/x-msvideo",
  mov: "video/quicktime",
  mp4: "video/mp4",
  webm: "video/webm",
};

const addresses = new WeakMap();
const uris = new WeakMap();

/** {kind, blob, name} of each file that is a picture or a video; `refused` are the names of the others. */
export function accept(files) {
  const media = [];
  const refused = [];
  for (const file of files) {
    const type = file.type || EXTENSIONS[file.name.split(".").pop().toLowerCase()] || "";
    const kind = type.split("/")[0];
    if (kind === "image" || kind === "video")
      media.push({ kind, name: file.name, blob: file.type ? file : new Blob([file], { type }) });
    else refused.push(file.name);
  }
  return { media, refused };
}

/** An address of the page's own for a blob. */
export function address(blob) {
  if (!addresses.has(blob)) addresses.set(blob, URL.createObjectURL(blob));
  return addresses.get(blob);
}

/** The blob as a data URI. */
export function dataUri(blob) {
  if (!uris.has(blob))
    uris.set(
      blob,
      new Promise((resolve, reject) => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result);
        reader.onerror = () => reject(reader.error);
        reader.readAsDataURL(blob);
      }),
    );
  return uris.get(blob);
}

/** The files of a drop or a paste. */
export const filesOf = (transfer) => [...(transfer?.files ?? [])];
