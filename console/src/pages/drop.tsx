import { useRef, useState } from "preact/hooks";
import { Icon } from "../components/icons";
import { Notice } from "../components/parts";
import { chosen, dropped, sift, type Dropped } from "../uploads/dropped";

/** Where files are dropped or chosen; folders too. */
export function DropZone({ title, hint, onFiles, compact = false }: { title: string; hint: string; onFiles: (files: Dropped[]) => void; compact?: boolean }) {
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const [isOver, setOver] = useState(false);
  const [nothing, setNothing] = useState<string | null>(null);
  const take = async (brought: Promise<Dropped[]>): Promise<void> => {
    const { files: wanted, why } = await sift(brought);
    setNothing(why);
    if (why === null) onFiles(wanted);
  };
  const choose = (input: HTMLInputElement): void => {
    void take(chosen(input.files));
    // The same file may be chosen again.
    input.value = "";
  };
  return (
    <>
      <div
        class={`drop${compact ? " compact" : ""}`}
        data-over={isOver}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={(event) => {
          if (!(event.currentTarget as HTMLElement).contains(event.relatedTarget as Node | null)) setOver(false);
        }}
        onDrop={(event) => {
          event.preventDefault();
          setOver(false);
          if (event.dataTransfer) void take(dropped(event.dataTransfer));
        }}
      >
        <Icon name="up" size={compact ? 18 : 28} />
        <div>
          <h2>{title}</h2>
          <p>{hint}</p>
        </div>
        <div class="choose">
          <button type="button" class={`button${compact ? " small" : " primary"}`} onClick={() => files.current?.click()}>Choose files</button>
          <button type="button" class={`button${compact ? " small" : ""}`} onClick={() => folder.current?.click()}>Choose a folder</button>
        </div>
        <input ref={files} type="file" multiple hidden data-choose="files" aria-label="Files" onChange={(event) => choose(event.currentTarget as HTMLInputElement)} />
        <input ref={folder} type="file" multiple hidden data-choose="folder" aria-label="Folder" {...{ webkitdirectory: true }} onChange={(event) => choose(event.currentTarget as HTMLInputElement)} />
      </div>
      {nothing === null ? null : <NothingToUpload why={nothing} />}
    </>
  );
}

/** Says that nothing of what was brought can be uploaded. */
export function NothingToUpload({ why }: { why: string }) {
  return <Notice tone="bad" title="Nothing in it can be uploaded.">{why} Bring the files of your data set, or a folder that holds them.</Notice>;
}
