"""A raw EFI image of the tiny guest, as the first virshle's users have one: GPT, an ESP and a root partition."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

MIB = 2**20
PAGE = 4096
ESP_MIB, ROOT_AT_MIB = 40, 41
STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")


def _run(*argv: str | Path, text: str | None = None) -> None:
    subprocess.run([str(word) for word in argv], check=True, input=text, text=True, capture_output=True)


def unified_kernel(image: Path, work: Path) -> Path:
    """Kernel, initrd and command line as one EFI program (systemd-stub(7))."""
    cmdline = work / "cmdline"
    cmdline.write_text("root=LABEL=tiny rw quiet console=ttyS0")
    release = work / "os-release"
    release.write_text("ID=tiny\n")
    sections = {".osrel": release, ".cmdline": cmdline, ".linux": image / "kernel", ".initrd": image / "initrd"}
    words: list[str] = []
    address = _end(STUB)
    for name, file in sections.items():
        words += ["--add-section", f"{name}={file}", "--change-section-vma", f"{name}={address:#x}"]
        address += -(-file.stat().st_size // PAGE) * PAGE
    target = work / "BOOTX64.EFI"
    _run("objcopy", *words, STUB, target)
    return target


def _end(program: Path) -> int:
    """The address behind its last section, from the base that the stubs of newer systemd have (Microsoft's PE format:
    e_lfanew, and of the optional header ImageBase and SizeOfImage). Where sections overlap, UEFI does not load it."""
    head = program.read_bytes()[:4096]
    (at,) = struct.unpack_from("<I", head, 0x3C)
    optional = at + 4 + 20
    (base,) = struct.unpack_from("<Q", head, optional + 24)
    (size,) = struct.unpack_from("<I", head, optional + 56)
    end: int = base + size
    return end


def efi_image(image: Path, work: Path, target: Path) -> None:
    """`image`: the folder of the built tiny image."""
    program = unified_kernel(image, work)
    esp = work / "esp"
    _run("mkfs.vfat", "-F", "32", "-n", "ESP", "-C", esp, str(ESP_MIB * 1024))
    _run("mmd", "-i", esp, "::/EFI", "::/EFI/BOOT")
    _run("mcopy", "-i", esp, program, "::/EFI/BOOT/BOOTX64.EFI")
    root = image / "disk.raw"
    root_mib = root.stat().st_size // MIB + 1
    with target.open("wb") as file:
        file.truncate((ROOT_AT_MIB + root_mib + 1) * MIB)
    table = f"label: gpt\nstart=1MiB, size={ESP_MIB}MiB, type=uefi\nstart={ROOT_AT_MIB}MiB, size={root_mib}MiB\n"
    _run("sfdisk", "--quiet", target, text=table)
    for part, at in ((esp, 1), (root, ROOT_AT_MIB)):
        _run("dd", f"if={part}", f"of={target}", "bs=1M", f"seek={at}", "conv=notrunc,sparse")
