#include "elf_file.h"

#include <elf.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "error.h"

namespace gfxsim {
namespace {

constexpr uint16_t kMachineAmdgpu = 224;
constexpr uint32_t kMachMask = 0xff;
constexpr uint64_t kLargestImage = uint64_t{256} << 20;
constexpr uint32_t kNoteAmdgpuMetadata = 32;
// One page: a code object's addresses and its alignment stay what they are in the file.
constexpr uint64_t kAlignment = 4096;

// The file as bytes from outside: nothing is read before it is known to be there.
class File {
 public:
  File(const void* bytes, size_t size) : bytes_(static_cast<const uint8_t*>(bytes)), size_(size) {}

  const uint8_t* at(uint64_t offset, uint64_t bytes) const {
    if (offset > size_ || bytes > size_ - offset) {
      throw Error(GFXSIM_INVALID_OBJECT,
                  format("the object has %zu bytes; its headers speak of %llu at %llu", size_,
                         static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(offset)));
    }
    return bytes_ + offset;
  }

  template <class T>
  T read(uint64_t offset) const {
    T value;
    memcpy(&value, at(offset, sizeof(T)), sizeof(T));
    return value;
  }

  std::string text(uint64_t offset, uint64_t end) const {
    const uint8_t* start = at(offset, end > offset ? end - offset : 0);
    const size_t most = end > offset ? end - offset : 0;
    return std::string(reinterpret_cast<const char*>(start), strnlen(reinterpret_cast<const char*>(start), most));
  }

 private:
  const uint8_t* bytes_;
  size_t size_;
};

Elf64_Ehdr read_header(const File& file) {
  const auto header = file.read<Elf64_Ehdr>(0);
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_machine != kMachineAmdgpu) {
    throw Error(GFXSIM_INVALID_OBJECT,
                "not a 64-bit AMDGPU ELF file; give one code object, as out of an offload bundle or from clang's "
                "--cuda-device-only --no-gpu-bundle-output");
  }
  return header;
}

void load_segments(const File& file, const std::vector<Elf64_Phdr>& segments, Elf* elf) {
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_LOAD) continue;
    if (segment.p_memsz > kLargestImage || segment.p_vaddr > kLargestImage - segment.p_memsz ||
        segment.p_filesz > segment.p_memsz) {
      throw Error(GFXSIM_INVALID_OBJECT, "a segment of the object ends past 256 MiB, or is larger than its memory");
    }
    elf->image_size = std::max<uint64_t>(elf->image_size, segment.p_vaddr + segment.p_memsz);
  }
  const uint64_t bytes = (elf->image_size / kAlignment + 1) * kAlignment;
  elf->image.reset(static_cast<uint8_t*>(std::aligned_alloc(kAlignment, bytes)));
  if (elf->image == nullptr) throw Error(GFXSIM_INVALID_OBJECT, "no memory for the object's segments");
  memset(elf->image.get(), 0, bytes);
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_LOAD) continue;
    memcpy(elf->image.get() + segment.p_vaddr, file.at(segment.p_offset, segment.p_filesz), segment.p_filesz);
  }
}

void read_notes(const File& file, const Elf64_Phdr& segment, Elf* elf) {
  uint64_t offset = segment.p_offset;
  const uint64_t end = segment.p_offset + segment.p_filesz;
  file.at(segment.p_offset, segment.p_filesz);
  while (offset + sizeof(Elf64_Nhdr) <= end) {
    const auto note = file.read<Elf64_Nhdr>(offset);
    const uint64_t name = offset + sizeof(Elf64_Nhdr);
    const uint64_t content = name + (uint64_t{note.n_namesz} + 3) / 4 * 4;
    if (note.n_type == kNoteAmdgpuMetadata && file.text(name, name + note.n_namesz) == "AMDGPU") {
      const uint8_t* bytes = file.at(content, note.n_descsz);
      elf->metadata.assign(bytes, bytes + note.n_descsz);
    }
    offset = content + (uint64_t{note.n_descsz} + 3) / 4 * 4;
  }
}

void read_symbols(const File& file, const Elf64_Ehdr& header, Elf* elf) {
  for (uint64_t i = 0; i < header.e_shnum; ++i) {
    const auto section = file.read<Elf64_Shdr>(header.e_shoff + i * header.e_shentsize);
    // The full table where the object has one: it also names functions that are not exported.
    if (section.sh_type != SHT_SYMTAB && section.sh_type != SHT_DYNSYM) continue;
    const auto names = file.read<Elf64_Shdr>(header.e_shoff + uint64_t{section.sh_link} * header.e_shentsize);
    for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= section.sh_size; at += sizeof(Elf64_Sym)) {
      const auto symbol = file.read<Elf64_Sym>(section.sh_offset + at);
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= SHN_LORESERVE) continue;
      const std::string name = file.text(names.sh_offset + symbol.st_name, names.sh_offset + names.sh_size);
      const bool function = ELF64_ST_TYPE(symbol.st_info) == STT_FUNC;
      if (!name.empty()) elf->symbols[name] = {symbol.st_value, symbol.st_size, function};
    }
  }
}

}  // namespace

Elf::Elf(const void* bytes, size_t size) {
  const File file(bytes, size);
  const Elf64_Ehdr header = read_header(file);
  machine_flags = header.e_flags & kMachMask;
  std::vector<Elf64_Phdr> segments;
  for (uint64_t i = 0; i < header.e_phnum; ++i) {
    segments.push_back(file.read<Elf64_Phdr>(header.e_phoff + i * header.e_phentsize));
  }
  load_segments(file, segments, this);
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type == PT_NOTE) read_notes(file, segment, this);
  }
  read_symbols(file, header, this);
}

const uint8_t* Elf::at(uint64_t address, uint64_t bytes) const {
  if (address > image_size || bytes > image_size - address) {
    throw Error(GFXSIM_INVALID_OBJECT,
                format("the object has nothing at its address 0x%llx", static_cast<unsigned long long>(address)));
  }
  return image.get() + address;
}

}  // namespace gfxsim
